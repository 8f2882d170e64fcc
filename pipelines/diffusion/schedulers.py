"""Noise schedulers: from the name that clients use to an instance of diffusers' own class."""

from __future__ import annotations

import copy
from functools import lru_cache, wraps
from typing import Any

import diffusers

from pipelines.diffusion.errors import RequestError
from pipelines.diffusion.noise_schedulers import (
    CLASSES,
    check_scheduler,
    check_steps,
    flow_shift,
    noise_schedulers,
    steps_range,
)
from pipelines.diffusion.request import NoiseScheduler


def make_scheduler(
    name: NoiseScheduler, default: Any, steps: int, device: Any, **schedule: Any
) -> Any:
    """A noise scheduler of its own for one request, its timesteps set.

    ``schedule`` goes to ``set_timesteps`` beside the number of steps. Raises RequestError as
    ``new_scheduler`` does, or if the model cannot be drawn with in that many steps.
    """
    scheduler = new_scheduler(name, default)
    check_steps(name, steps, *steps_range(name, _config(default)))
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
    scheduler = copy.deepcopy(_template(name, default))
    if hasattr(scheduler, "set_begin_index"):
        _begin_at_the_first(scheduler)
    return scheduler


def _begin_at_the_first(scheduler: Any) -> None:
    """Whoever sets its timesteps, a pipeline's own call as well.

    diffusers else takes the second of two equal timesteps for the first of all, as they are among
    Karras' sigmas, and runs out of them at the end.
    """
    set_timesteps = scheduler.set_timesteps

    @wraps(set_timesteps)
    def set_and_begin(*args: Any, **kwargs: Any) -> None:
        set_timesteps(*args, **kwargs)
        scheduler.set_begin_index(0)

    scheduler.set_timesteps = set_and_begin


@lru_cache(maxsize=128)
def _template(name: NoiseScheduler, default: Any) -> Any:
    """What `new_scheduler` copies: diffusers looks at signatures for longer than a copy takes."""
    config = _config(default)
    check_scheduler(name, noise_schedulers(config))
    if name is NoiseScheduler.DEFAULT:
        return type(default).from_config(default.config)
    class_name, overrides = CLASSES[name]
    if name is NoiseScheduler.FLOW_MATCH_EULER:
        overrides = {**overrides, **flow_shift(config)}
    return getattr(diffusers, class_name).from_config(default.config, **overrides)


def _config(default: Any) -> dict[str, Any]:
    """As the model folder has it."""
    return {**default.config, "_class_name": type(default).__name__}
