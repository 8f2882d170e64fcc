"""Which noise schedulers draw with a model, and in how many steps. Free of torch.

Both follow from the configuration of the model's own noise scheduler, its
``scheduler_config.json``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pipelines.diffusion.errors import RequestError
from pipelines.diffusion.request import NoiseScheduler

_PLAIN_SIGMAS = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
}
_DPMPP_2M = {
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "use_lu_lambdas": False,
    **_PLAIN_SIGMAS,
}

CLASSES: Mapping[NoiseScheduler, tuple[str, Mapping[str, Any]]] = {
    NoiseScheduler.DDIM: ("DDIMScheduler", {}),
    NoiseScheduler.EULER: ("EulerDiscreteScheduler", _PLAIN_SIGMAS),
    NoiseScheduler.EULER_ANCESTRAL: ("EulerAncestralDiscreteScheduler", {}),
    NoiseScheduler.DPMPP_2M: ("DPMSolverMultistepScheduler", _DPMPP_2M),
    NoiseScheduler.DPMPP_2M_KARRAS: (
        "DPMSolverMultistepScheduler",
        {**_DPMPP_2M, "use_karras_sigmas": True},
    ),
    NoiseScheduler.UNIPC: ("UniPCMultistepScheduler", _PLAIN_SIGMAS),
    NoiseScheduler.LCM: ("LCMScheduler", {}),
    NoiseScheduler.FLOW_MATCH_EULER: ("FlowMatchEulerDiscreteScheduler", _PLAIN_SIGMAS),
}
"""diffusers' class, and what the name promises whatever the model's configuration says."""

# What takes a variance beside the prediction, as models of pixels tell it.
_WITH_LEARNED_VARIANCE = (
    NoiseScheduler.DEFAULT,
    NoiseScheduler.DPMPP_2M,
    NoiseScheduler.DPMPP_2M_KARRAS,
)
_NOISE_PREDICTIONS = ("epsilon", "v_prediction", "sample")
_TELLS_ORIGINAL = (
    "DDIMScheduler",
    "DDPMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "LCMScheduler",
    "TCDScheduler",
)
_DISTILLED = ("LCMScheduler", "TCDScheduler")  # their steps are some of those of their training


def noise_schedulers(config: Mapping[str, Any]) -> tuple[NoiseScheduler, ...]:
    """Those that draw with a model whose own noise scheduler is so configured.

    Flow matching (arXiv:2210.02747) predicts a velocity, and its schedulers fit no other model.
    What has no betas, such as EDM (arXiv:2206.00364), scales in its own way what goes into the
    model and what comes out.
    """
    prediction = config.get("prediction_type", "epsilon")
    if _is_flow(config):
        return NoiseScheduler.DEFAULT, NoiseScheduler.FLOW_MATCH_EULER
    if "beta_schedule" not in config or prediction not in _NOISE_PREDICTIONS:
        return (NoiseScheduler.DEFAULT,)
    if str(config.get("variance_type")).startswith("learned"):
        return _WITH_LEARNED_VARIANCE
    others = {NoiseScheduler.FLOW_MATCH_EULER}
    if prediction == "sample":
        others.add(NoiseScheduler.EULER_ANCESTRAL)  # diffusers has not implemented it
    return tuple(name for name in NoiseScheduler if name not in others)


def steps_range(name: NoiseScheduler, config: Mapping[str, Any]) -> tuple[int, int]:
    """The fewest and the most steps that it takes, with a source picture or without.

    Towards the number of training timesteps steps fall together in some schedulers, and divide by
    zero; a tenth of them is never asked for.
    """
    class_name = _class_name(name, config)
    trained = config.get("num_train_timesteps", 1000)
    most = trained * 9 // 10
    if class_name in _DISTILLED:
        original = config.get("original_inference_steps", 50)
        return 1, min(original, most) if original <= trained else 0
    if class_name == "EulerAncestralDiscreteScheduler" and config.get("rescale_betas_zero_snr"):
        most = trained // 4  # beyond, rounding makes a variance negative
    fewest = {"UnCLIPScheduler": 2, "PNDMScheduler": 1 if config.get("skip_prk_steps") else 4}
    return fewest.get(class_name, 1), most


def tells_original(name: NoiseScheduler, config: Mapping[str, Any]) -> bool:
    """Whether its steps tell the noise-free picture in sight beside the next latents."""
    return _class_name(name, config) in _TELLS_ORIGINAL


def check_scheduler(name: NoiseScheduler, choices: Collection[NoiseScheduler]) -> None:
    """Raises RequestError for a noise scheduler that is none of a model's ``choices``."""
    if name not in choices:
        raise RequestError(
            f"Noise scheduler {name.value!r} does not fit this model; choose one of"
            f" {', '.join(choices)}.",
            "scheduler",
        )


def check_steps(name: NoiseScheduler, steps: int, fewest: int, most: int) -> None:
    """Raises RequestError for more steps than the noise scheduler takes, or fewer."""
    if not fewest <= steps <= most:
        raise RequestError(
            f"num_inference_steps must be from {fewest} to {most} for noise scheduler"
            f" {name.value!r}; this asks for {steps}.",
            "num_inference_steps",
        )


def flow_shift(config: Mapping[str, Any]) -> dict[str, Any]:
    """The shift of a flow's timesteps under the name that flow matching has for it."""
    return {"shift": config["flow_shift"]} if "flow_shift" in config else {}


def _class_name(name: NoiseScheduler, config: Mapping[str, Any]) -> str:
    return CLASSES[name][0] if name in CLASSES else str(config.get("_class_name", ""))


def _is_flow(config: Mapping[str, Any]) -> bool:
    return bool(
        config.get("_class_name", "").startswith("FlowMatch")
        or config.get("prediction_type") == "flow_prediction"
        or config.get("use_flow_sigmas")
    )
