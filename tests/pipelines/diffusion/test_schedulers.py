from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
)
from torch import Tensor

from pipelines.diffusion.catalog import noise_schedulers
from pipelines.diffusion.errors import RequestError
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


@pytest.mark.parametrize("name", noise_schedulers("DDIMScheduler"))
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


@pytest.mark.parametrize("name", noise_schedulers("DDIMScheduler"))
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
    with pytest.raises(RequestError, match="'lcm' cannot take 51 steps"):
        make_scheduler(NoiseScheduler.LCM, default, 51, "cpu")


def test_flow_matching_fits_only_its_own() -> None:
    flow = FlowMatchEulerDiscreteScheduler()
    made = make_scheduler(NoiseScheduler.FLOW_MATCH_EULER, flow, 5, "cpu")
    assert type(made) is FlowMatchEulerDiscreteScheduler
    with pytest.raises(RequestError, match="choose one of default, flow_match_euler"):
        make_scheduler(NoiseScheduler.DDIM, flow, 5, "cpu")
    with pytest.raises(RequestError, match="does not fit this model"):
        make_scheduler(NoiseScheduler.FLOW_MATCH_EULER, DDIMScheduler(), 5, "cpu")
