"""Noise schedulers: from the name that clients use to an instance of diffusers' own class."""

from __future__ import annotations

from typing import Any

import diffusers

from pipelines.diffusion.errors import RequestError
from pipelines.diffusion.request import NoiseScheduler

# The class, and what its name promises whatever the model's configuration says.
_CLASSES: dict[NoiseScheduler, tuple[str, dict[str, Any]]] = {
    NoiseScheduler.DDIM: ("DDIMScheduler", {}),
    NoiseScheduler.EULER: ("EulerDiscreteScheduler", {"use_karras_sigmas": False}),
    NoiseScheduler.EULER_ANCESTRAL: ("EulerAncestralDiscreteScheduler", {}),
    NoiseScheduler.DPMPP_2M: (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": False},
    ),
    NoiseScheduler.DPMPP_2M_KARRAS: (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True},
    ),
    NoiseScheduler.UNIPC: ("UniPCMultistepScheduler", {"use_karras_sigmas": False}),
    NoiseScheduler.LCM: ("LCMScheduler", {}),
}


def make_scheduler(name: NoiseScheduler, default: Any, steps: int, device: Any) -> Any:
    """A noise scheduler of its own for one request, its timesteps set.

    ``default`` is the one in the model folder: its configuration (betas, prediction type,
    timestep spacing) holds for all. Raises RequestError if it cannot take that many steps.
    """
    if name is NoiseScheduler.DEFAULT:
        scheduler = type(default).from_config(default.config)
    else:
        class_name, overrides = _CLASSES[name]
        scheduler = getattr(diffusers, class_name).from_config(default.config, **overrides)
    try:
        scheduler.set_timesteps(steps, device=device)
    except ValueError as error:
        raise RequestError(f"Noise scheduler {name.value!r} cannot take {steps} steps.") from error
    return scheduler
