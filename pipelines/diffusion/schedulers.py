"""Noise schedulers: from the name that clients use to an instance of diffusers' own class."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import diffusers

from pipelines.diffusion.catalog import noise_schedulers
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
    NoiseScheduler.FLOW_MATCH_EULER: ("FlowMatchEulerDiscreteScheduler", {}),
}


def make_scheduler(
    name: NoiseScheduler, default: Any, steps: int, device: Any, **schedule: Any
) -> Any:
    """A noise scheduler of its own for one request, its timesteps set.

    ``schedule`` goes to ``set_timesteps`` beside the number of steps. Raises RequestError as
    ``new_scheduler`` does, or if the model cannot be drawn with in that many steps.
    """
    scheduler = new_scheduler(name, default)
    try:
        scheduler.set_timesteps(steps, device=device, **schedule)
    except ValueError as error:
        raise RequestError(f"Noise scheduler {name.value!r} cannot take {steps} steps.") from error
    return scheduler


def new_scheduler(name: NoiseScheduler, default: Any) -> Any:
    """One whose timesteps are not set yet.

    ``default`` is the one in the model folder: its configuration (betas, prediction type,
    timestep spacing) holds for all. Raises RequestError if the model cannot be drawn with by that
    scheduler.
    """
    return copy.deepcopy(_template(name, default))


@lru_cache(maxsize=128)
def _template(name: NoiseScheduler, default: Any) -> Any:
    """What `new_scheduler` copies: diffusers looks at signatures for longer than a copy takes."""
    choices = noise_schedulers(type(default).__name__)
    if name not in choices:
        raise RequestError(
            f"Noise scheduler {name.value!r} does not fit this model; choose one of"
            f" {', '.join(choices)}."
        )
    if name is NoiseScheduler.DEFAULT:
        return type(default).from_config(default.config)
    class_name, overrides = _CLASSES[name]
    return getattr(diffusers, class_name).from_config(default.config, **overrides)
