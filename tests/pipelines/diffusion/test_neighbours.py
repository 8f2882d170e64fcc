"""What a request draws does not depend on who shares its batch; hypothesis draws the neighbours.

A family joins by a line in ``FAMILIES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipelines.diffusion.catalog import noise_schedulers
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import Failure, NoiseScheduler, Request, Result, SamplingParams
from tests.pipelines.diffusion.tiny.stable_diffusion import build_pipeline

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

TOLERANCE = 1e-4  # of colours from 0 to 1, and of latents


@dataclass(frozen=True, slots=True)
class Tiny:
    """How to build a family's tiny pipeline, and in what its requests may differ.

    ``sizes`` are (width, height) in pixels; ``sources`` is whether it starts from pictures.
    """

    build: Callable[[], Any]
    sizes: tuple[tuple[int, int], ...] = ((64, 64), (64, 64), (48, 64))
    sources: bool = True


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A request that joins before the step ``joins``, and may be aborted ``stays`` steps later."""

    request: Request
    joins: int
    stays: int | None


FAMILIES = {
    "stable-diffusion": Tiny(build_pipeline),
}


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request: pytest.FixtureRequest) -> Tiny:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def loaded(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder: Path = tmp_path_factory.mktemp("tiny")
    tiny.build().save_pretrained(folder)
    return load_model(folder, device="cpu", dtype="float32")


@st.composite
def neighbours(
    draw: st.DrawFn, tiny: Tiny, schedulers: tuple[NoiseScheduler, ...]
) -> list[Neighbour]:
    """Eight requests that differ in all that a request can ask for."""
    return [
        Neighbour(
            Request(f"r{i}", draw(asked(tiny, schedulers))),
            joins=draw(st.integers(0, 6)),
            stays=draw(st.none() | st.none() | st.integers(1, 4)),
        )
        for i in range(8)
    ]


@st.composite
def asked(draw: st.DrawFn, tiny: Tiny, schedulers: tuple[NoiseScheduler, ...]) -> SamplingParams:
    width, height = draw(st.sampled_from(tiny.sizes))
    steps = draw(st.integers(1, 6))
    seed = draw(st.integers(0, 2**32))
    pixels = np.random.default_rng(seed)
    sourced = tiny.sources and draw(st.booleans())
    masked = sourced and draw(st.booleans())
    return SamplingParams(
        prompt=draw(st.text("abc ", max_size=12)),
        negative_prompt=draw(st.sampled_from(["", "blue"])),
        width=width,
        height=height,
        num_inference_steps=steps,
        guidance_scale=draw(st.sampled_from([0.0, 1.0, 2.5, 7.5])),
        seed=seed,
        scheduler=draw(st.sampled_from(schedulers)),
        image=pixels.integers(0, 256, (height, width, 3), np.uint8) if sourced else None,
        mask=pixels.integers(0, 256, (height, width), np.uint8) if masked else None,
        strength=draw(st.sampled_from([each for each in (0.4, 0.7, 1.0) if each * steps >= 1])),
    )


@settings(
    max_examples=6,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_each_draws_as_if_alone(tiny: Tiny, loaded: Family, data: st.DataObject) -> None:
    schedulers = noise_schedulers(loaded.description.default_scheduler)
    together = data.draw(neighbours(tiny, schedulers))
    alone = {
        each.request.id: draw(loaded, [Neighbour(each.request, joins=0, stays=None)])
        for each in together
    }
    drawn = draw(loaded, together)
    stayed = {each.request.id for each in together if each.stays is None}
    assert stayed <= set(drawn)
    for id_, (latents, picture) in drawn.items():
        expected_latents, expected_picture = alone[id_][id_]
        torch.testing.assert_close(latents, expected_latents, atol=TOLERANCE, rtol=TOLERANCE)
        torch.testing.assert_close(picture, expected_picture, atol=TOLERANCE, rtol=0)


def draw(family: Family, together: list[Neighbour]) -> dict[str, tuple[Tensor, Tensor]]:
    """The last latents and the picture, before it is rounded, of each that was not aborted."""
    finished: list[tuple[Tensor, Tensor]] = []
    decode = family.decode

    def keep(latents: Tensor) -> Tensor:
        picture = decode(latents)
        finished.append((latents, picture))
        return picture

    engine = DiffusionEngine(family, max_batch=8)
    order: list[str] = []
    step = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(family, "decode", keep)
        while engine.has_work or step <= max(each.joins for each in together):
            for each in together:
                if each.joins == step:
                    engine.add(each.request)
                if each.stays is not None and each.joins + each.stays == step:
                    engine.abort(each.request.id)
            for output in engine.step():
                assert not isinstance(output, Failure), output
                if isinstance(output, Result):
                    order.append(output.request_id)
            step += 1
    return dict(zip(order, finished, strict=True))
