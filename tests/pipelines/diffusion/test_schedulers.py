from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    TCDScheduler,
)
from torch import Tensor

from pipelines.diffusion.errors import RequestError
from pipelines.diffusion.noise_schedulers import noise_schedulers, steps_range
from pipelines.diffusion.request import NoiseScheduler
from pipelines.diffusion.schedulers import make_scheduler

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")


@pytest.fixture
def default() -> Any:
    return DPMSolverMultistepScheduler(
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        algorithm_type="sde-dpmsolver++",
        beta_schedule="scaled_linear",
    )


def test_default_is_the_models_own(default: Any) -> None:
    made = make_scheduler(NoiseScheduler.DEFAULT, default, 5, "cpu")
    assert type(made) is DPMSolverMultistepScheduler
    assert made is not default
    assert made.config.algorithm_type == "sde-dpmsolver++"
    assert len(made.timesteps) == 5


@pytest.mark.parametrize("name", noise_schedulers(DDIMScheduler().config))
def test_what_the_model_was_trained_for_holds(name: NoiseScheduler, default: Any) -> None:
    made = make_scheduler(name, default, 5, "cpu")
    assert made.config.prediction_type == "v_prediction"
    assert made.config.beta_schedule == "scaled_linear"


def test_a_name_means_the_same_with_every_model(default: Any) -> None:
    euler = make_scheduler(NoiseScheduler.EULER, default, 5, "cpu")
    assert type(euler) is EulerDiscreteScheduler
    assert not euler.config.use_karras_sigmas
    plain = make_scheduler(NoiseScheduler.DPMPP_2M, default, 5, "cpu")
    assert (plain.config.algorithm_type, plain.config.use_karras_sigmas) == ("dpmsolver++", False)
    karras = make_scheduler(NoiseScheduler.DPMPP_2M_KARRAS, default, 5, "cpu")
    assert (karras.config.algorithm_type, karras.config.use_karras_sigmas) == ("dpmsolver++", True)


@pytest.mark.parametrize("name", noise_schedulers(DDIMScheduler().config))
def test_one_that_works_changes_no_other(name: NoiseScheduler, default: Any) -> None:
    def draw(scheduler: Any) -> Tensor:
        generator, latents = torch.Generator().manual_seed(1), torch.ones(1, 4, 2, 2)
        for timestep in scheduler.timesteps:
            step = {"generator": generator} if takes_generator(scheduler) else {}
            scaled = scheduler.scale_model_input(latents, timestep)
            latents = scheduler.step(0.1 * scaled, timestep, latents, **step).prev_sample
        return latents

    used = make_scheduler(name, default, 5, "cpu")
    drawn = draw(used)
    assert torch.equal(draw(make_scheduler(name, default, 5, "cpu")), drawn)
    own = {key: value for key, value in vars(used).items() if isinstance(value, Tensor | list)}
    for key, value in vars(make_scheduler(name, default, 5, "cpu")).items():
        assert value is None or value is not own.get(key)


def takes_generator(scheduler: Any) -> bool:
    return "generator" in inspect.signature(scheduler.step).parameters


def test_too_many_steps(default: Any) -> None:
    assert type(make_scheduler(NoiseScheduler.LCM, default, 50, "cpu")) is LCMScheduler
    with pytest.raises(
        RequestError, match="from 1 to 50 for noise scheduler 'lcm'; this asks for 51"
    ):
        make_scheduler(NoiseScheduler.LCM, default, 51, "cpu")


SIGMAS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")


@pytest.mark.parametrize("own", SIGMAS)
@pytest.mark.parametrize(
    ("name", "scheduler_class"),
    [
        *((name, EulerDiscreteScheduler) for name in noise_schedulers(DDIMScheduler().config)[1:]),
        (NoiseScheduler.FLOW_MATCH_EULER, FlowMatchEulerDiscreteScheduler),
    ],
)
def test_the_models_own_sigmas_are_its_defaults_alone(
    name: NoiseScheduler, scheduler_class: Any, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # scipy draws beta sigmas; what is configured alone needs none.
    monkeypatch.setattr(f"{scheduler_class.__module__}.is_scipy_available", lambda: True)
    plain, default = scheduler_class(), scheduler_class(**{own: True})

    made, expected = (make_scheduler(name, each, 9, "cpu") for each in (default, plain))

    assert torch.equal(made.timesteps, expected.timesteps)
    if hasattr(made, "sigmas"):
        assert torch.equal(made.sigmas, expected.sigmas)
    if own != "use_beta_sigmas":
        kept = make_scheduler(NoiseScheduler.DEFAULT, default, 9, "cpu")
        without = make_scheduler(NoiseScheduler.DEFAULT, plain, 9, "cpu")
        assert not torch.equal(kept.sigmas, without.sigmas)


CONFIGS: dict[str, Any] = {
    "leading": DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
    "linspace": EulerDiscreteScheduler(beta_schedule="scaled_linear"),
    "zero-snr": DDIMScheduler(
        prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True
    ),
    "sample": DDIMScheduler(prediction_type="sample"),
    "pndm": PNDMScheduler(),
    "tcd": TCDScheduler(original_inference_steps=20),
    "flow": FlowMatchEulerDiscreteScheduler(shift=3.0),
    "dpm-flow": DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    ),
}


@pytest.mark.parametrize("config", CONFIGS)
def test_every_number_of_steps_in_range_can_be_made(config: str) -> None:
    own = CONFIGS[config]
    told = {**own.config, "_class_name": type(own).__name__}
    for name in noise_schedulers(told):
        fewest, most = steps_range(name, told)
        for steps in {fewest, fewest + 1, 33, 50, 150, 250, most}:
            if fewest <= steps <= most:
                assert torch.isfinite(drawn_with(make_scheduler(name, own, steps, "cpu"))).all()
        for steps in (fewest - 1, most + 1):
            with pytest.raises(RequestError, match="num_inference_steps must be from"):
                make_scheduler(name, own, steps, "cpu")


def drawn_with(scheduler: Any) -> Tensor:
    latents = torch.ones(1, 4, 2, 2)
    for timestep in scheduler.timesteps:
        step = {"generator": torch.Generator()} if takes_generator(scheduler) else {}
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(latents, timestep)
        latents = scheduler.step(0.1 * latents, timestep, latents, **step).prev_sample
    return latents


def test_what_fits_follows_from_the_configuration() -> None:
    """And not from the class: these are of classes that predict noise as well as a flow."""
    sample, learned = DDIMScheduler(prediction_type="sample"), {"variance_type": "learned_range"}
    assert NoiseScheduler.EULER_ANCESTRAL not in noise_schedulers(sample.config)
    assert NoiseScheduler.DDIM not in noise_schedulers({**sample.config, **learned})
    assert noise_schedulers(EDMEulerScheduler().config) == (NoiseScheduler.DEFAULT,)
    flow = (NoiseScheduler.DEFAULT, NoiseScheduler.FLOW_MATCH_EULER)
    assert noise_schedulers(CONFIGS["dpm-flow"].config) == flow
    made = make_scheduler(NoiseScheduler.FLOW_MATCH_EULER, CONFIGS["dpm-flow"], 5, "cpu")
    assert made.config.shift == 3.0


def test_flow_matching_fits_only_its_own() -> None:
    flow = FlowMatchEulerDiscreteScheduler()
    made = make_scheduler(NoiseScheduler.FLOW_MATCH_EULER, flow, 5, "cpu")
    assert type(made) is FlowMatchEulerDiscreteScheduler
    with pytest.raises(RequestError, match="choose one of default, flow_match_euler"):
        make_scheduler(NoiseScheduler.DDIM, flow, 5, "cpu")
    with pytest.raises(RequestError, match="does not fit this model"):
        make_scheduler(NoiseScheduler.FLOW_MATCH_EULER, DDIMScheduler(), 5, "cpu")
