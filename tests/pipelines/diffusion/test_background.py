"""Background requests make way for all others, between two steps, and lose none of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.diffusion.batching.batcher import StepBatcher
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.pool import ModelPool, ModelSource, placed
from pipelines.diffusion.request import Displaced, Output, Progress, Request, Result, SamplingParams
from pipelines.diffusion.runner import EngineRunner
from pipelines.diffusion.trajectory import Trajectory
from tests.pipelines.diffusion.tiny import pixart_alpha

Params = Callable[..., SamplingParams]
Run = Callable[..., list[Output]]


def finished(outputs: list[Output]) -> list[str]:
    return [output.request_id for output in outputs if isinstance(output, Result)]


@pytest.mark.parametrize("done", range(5))
def test_another_request_waits_for_no_step_of_it(
    family: StableDiffusion, params: Params, run: Run, done: int
) -> None:
    """After ``done`` of its four steps; after the last it is not decoded yet."""
    engine = DiffusionEngine(family, max_batch=1)
    alone = run(engine, Request("alone", params(num_inference_steps=3)))
    undisturbed = run(engine, Request("idle", params()))[-1]

    engine.add(Request("idle", params(), background=True))
    before = [output for _ in range(done) for output in engine.step()]
    assert not finished(before)
    engine.add(Request("pays", params(num_inference_steps=3)))
    drawn = [output for _ in alone[:-1] for output in engine.step()]
    assert [each.request_id for each in drawn] == ["pays"] * len(alone)
    assert isinstance(drawn[-1], Result)

    after = run(engine)
    steps = [each.step for each in [*before, *after] if isinstance(each, Progress)]
    assert steps == [1, 2, 3, 4], "no step is made twice"
    assert isinstance(after[-1], Result)
    assert isinstance(undisturbed, Result)
    np.testing.assert_array_equal(after[-1].image, undisturbed.image)


def test_they_take_no_place(family: StableDiffusion, params: Params, run: Run) -> None:
    engine = DiffusionEngine(family, max_batch=2)
    for i in range(2):
        engine.add(Request(f"idle {i}", params(), background=True))
    engine.step()
    assert engine.free_slots == 2
    engine.add(Request("pays", params()))
    engine.step()
    stats = engine.stats()
    assert (stats.active, stats.waiting, stats.decoding, stats.background) == (1, 0, 0, 2)
    assert finished(run(engine))[0] == "pays"


def test_the_runner_offers_their_places(family: StableDiffusion, params: Params) -> None:
    runner = EngineRunner(DiffusionEngine(family, max_batch=2), lambda _: None)
    runner.submit(Request("idle", params(), background=True))
    assert (runner.free_slots, runner.drawing) == (2, 0)
    runner.submit(Request("pays", params()))
    assert (runner.free_slots, runner.drawing) == (1, 1)


def pool_of(family: StableDiffusion) -> ModelPool:
    """Two models, and room for one."""
    source = ModelSource(lambda: placed(family), 1)
    return ModelPool({"first": source, "second": source}, max_bytes=1)


def test_it_leaves_for_a_model_that_has_no_room(
    family: StableDiffusion, params: Params, run: Run
) -> None:
    engine = DiffusionEngine(pool_of(family))
    engine.warm_up()
    engine.add(Request("idle", params(num_inference_steps=40), background=True))
    engine.step()
    outputs = run(engine, Request("pays", params(), model="second"))
    assert Displaced("idle") in outputs
    assert finished(outputs) == ["pays"]


def test_it_unloads_no_model(family: StableDiffusion, params: Params) -> None:
    engine = DiffusionEngine(pool_of(family))
    engine.warm_up()
    engine.add(Request("idle", params(), model="second", background=True))
    for _ in range(3):
        engine.step()
    assert engine.models.loaded == ["first"]
    engine.add(Request("pays", params()))
    outputs = [output for _ in range(4) for output in engine.step()]
    assert finished(outputs) == ["pays"]
    assert engine.abort("idle")


def test_it_leaves_where_memory_is_short(
    family: StableDiffusion, params: Params, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DiffusionEngine(family)
    engine.add(Request("idle", params(num_inference_steps=40), background=True))
    engine.step()
    prepare = family.prepare

    def with_room_for_one(*arguments: object) -> Trajectory:
        if engine.stats().background:
            raise torch.OutOfMemoryError("as a device says it")
        return prepare(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(family, "prepare", with_room_for_one)
    outputs = run(engine, Request("pays", params()))
    assert Displaced("idle") in outputs
    assert finished(outputs) == ["pays"]


def test_it_leaves_the_one_call_of_a_pipeline(tmp_path: Path, params: Params, run: Run) -> None:
    pixart_alpha.build_pipeline().save_pretrained(tmp_path)
    engine = DiffusionEngine(load_model(tmp_path, device="cpu", dtype="float32"))
    engine.add(Request("idle", params(num_inference_steps=40), background=True))
    engine.step()
    outputs = run(engine, Request("pays", params()))
    assert outputs[0] == Displaced("idle")
    assert finished(outputs) == ["pays"]


def test_steps_have_them_only_where_no_other_is() -> None:
    batcher = StepBatcher(8, lambda: 0.0)
    for name in "ab":
        batcher.add(name, "lane", background=True)
    assert batcher.next_batch() == ["a", "b"]
    assert batcher.next_batch(background=False) == []
    batcher.add("c", "lane")
    assert batcher.next_batch() == ["c"]
    batcher.remove("c")
    assert batcher.next_batch() == ["a", "b"]


def test_their_bytes_do_not_count() -> None:
    batcher = StepBatcher(8, lambda: 0.0, memory=10)
    batcher.add("idle", "lane", size=8, background=True)
    batcher.next_batch()
    batcher.add("pays", "lane", size=8)
    assert batcher.next_batch() == ["pays"]
