from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.errors import EngineStoppedError
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.pool import ModelSource, placed
from pipelines.diffusion.request import Failure, Output, Progress, Request, Result, SamplingParams
from pipelines.diffusion.runner import EngineRunner
from pipelines.diffusion.trajectory import Trajectory

Params = Callable[..., SamplingParams]
LONG = 900  # steps; nobody waits for them


class Desk:
    """Collects what a runner hands out."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []
        self.changed = threading.Condition()

    def __call__(self, outputs: list[Output]) -> None:
        with self.changed:
            self.outputs += outputs
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], timeout: float = 30) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, timeout)

    def final(self) -> dict[str, Output]:
        return {o.request_id: o for o in self.outputs if not isinstance(o, Progress)}

    def begun(self) -> set[str]:
        return {o.request_id for o in self.outputs}


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def runner(family: StableDiffusion, desk: Desk) -> Iterator[EngineRunner]:
    runner = EngineRunner(DiffusionEngine(family, max_batch=4), desk)
    runner.start()
    yield runner
    runner.stop(drain=False, timeout=30)
    assert not runner.alive


def test_a_picture(runner: EngineRunner, desk: Desk, params: Params) -> None:
    assert (runner.max_batch, runner.free_slots) == (4, 4)
    runner.submit(Request("one", params()))
    desk.wait_for(lambda: "one" in desk.final())
    assert isinstance(desk.final()["one"], Result)
    assert runner.free_slots == 4
    assert runner.stats().finished == 1


def test_many_threads_submit(runner: EngineRunner, desk: Desk, params: Params) -> None:
    requests = [Request(str(i), params(seed=i)) for i in range(12)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(runner.submit, requests))
    desk.wait_for(lambda: len(desk.final()) == 12)
    assert all(isinstance(output, Result) for output in desk.final().values())
    stats = runner.stats()
    assert stats.request_steps / stats.steps > 1
    assert (stats.active, stats.waiting) == (0, 0)


def test_ticks_while_idle(runner: EngineRunner) -> None:
    before, deadline = runner.ticks, time.monotonic() + 10
    while runner.ticks < before + 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert runner.ticks >= before + 2
    assert runner.ticks < 50  # it sleeps, rather than spins


def test_abort(runner: EngineRunner, desk: Desk, params: Params) -> None:
    runner.submit(Request("long", params(num_inference_steps=LONG)))
    runner.submit(Request("short", params(seed=3)))
    desk.wait_for(lambda: "long" in desk.begun())
    assert runner.abort("long")
    assert not runner.abort("long")
    assert not runner.abort("unknown")
    desk.wait_for(lambda: "short" in desk.final())
    assert "long" not in desk.final()
    assert runner.free_slots == 4


def test_aborted_and_submitted_again(runner: EngineRunner, desk: Desk, params: Params) -> None:
    runner.submit(Request("again", params(num_inference_steps=LONG)))
    desk.wait_for(lambda: "again" in desk.begun())
    assert runner.abort("again")
    runner.submit(Request("again", params()))
    desk.wait_for(lambda: "again" in desk.final())
    assert isinstance(desk.final()["again"], Result)


def test_abort_before_the_engine_saw_it(
    family: StableDiffusion, desk: Desk, params: Params
) -> None:
    runner = EngineRunner(DiffusionEngine(family), desk)
    runner.submit(Request("one", params()))
    assert runner.stats().waiting == 1
    assert runner.abort("one")
    assert runner.stats().waiting == 0
    runner.start()
    assert runner.stop(drain=True) == []
    assert desk.outputs == []


def test_an_identifier_is_in_flight_once(runner: EngineRunner, params: Params) -> None:
    runner.submit(Request("same", params(num_inference_steps=LONG)))
    with pytest.raises(ValueError, match="'same' is in flight already"):
        runner.submit(Request("same", params()))


def test_stop_drains(runner: EngineRunner, desk: Desk, params: Params) -> None:
    for i in range(6):
        runner.submit(Request(str(i), params(seed=i)))
    assert runner.stop(drain=True, timeout=60) == []
    assert len(desk.final()) == 6
    assert not runner.alive
    assert not runner.failed
    assert runner.free_slots == 0
    with pytest.raises(EngineStoppedError, match="takes no more requests"):
        runner.submit(Request("late", params()))


def test_stop_hands_back(runner: EngineRunner, desk: Desk, params: Params) -> None:
    for name in "ab":
        runner.submit(Request(name, params(num_inference_steps=LONG)))
    desk.wait_for(lambda: desk.begun() == {"a", "b"})
    assert runner.stop(drain=False, timeout=30) == ["a", "b"]
    assert desk.final() == {}


def test_drain_gives_up_in_time(runner: EngineRunner, desk: Desk, params: Params) -> None:
    runner.submit(Request("long", params(num_inference_steps=LONG)))
    assert runner.stop(drain=True, timeout=0.2) == ["long"]
    ended = time.monotonic() + 30
    while runner.alive and time.monotonic() < ended:
        time.sleep(0.02)
    assert not runner.alive
    assert desk.final() == {}


def test_a_dead_loop(
    family: StableDiffusion, desk: Desk, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_device(_: Sequence[Trajectory]) -> torch.Tensor:
        raise torch.AcceleratorError("injected")

    monkeypatch.setattr(family, "denoise", broken_device)
    runner = EngineRunner(DiffusionEngine(family, max_batch=1), desk)
    for name in ("one", "waiting"):
        runner.submit(Request(name, params()))
    runner.start()
    desk.wait_for(lambda: len(desk.final()) == 2)
    for output in desk.final().values():
        assert isinstance(output, Failure)
        assert "injected" in output.reason
    assert runner.failed
    assert isinstance(runner.error, torch.AcceleratorError)
    ticks = runner.ticks
    assert runner.free_slots == 0
    with pytest.raises(EngineStoppedError):
        runner.submit(Request("late", params()))
    time.sleep(0.6)
    assert runner.ticks == ticks
    assert runner.stop(drain=True) == []


def test_same_picture_as_the_bare_engine(
    family: StableDiffusion,
    runner: EngineRunner,
    desk: Desk,
    params: Params,
    run: Callable[..., list[Output]],
) -> None:
    runner.submit(Request("one", params()))
    desk.wait_for(lambda: "one" in desk.final())
    ours, bare = desk.final()["one"], run(DiffusionEngine(family), Request("one", params()))[-1]
    assert isinstance(ours, Result)
    assert isinstance(bare, Result)
    np.testing.assert_array_equal(ours.image, bare.image)


def test_patience_follows_the_longest_step_and_the_present_one(
    family: StableDiffusion, desk: Desk
) -> None:
    engine = DiffusionEngine(family, max_batch=4)
    runner = EngineRunner(engine, desk)
    assert runner.patience == 5, "ten idle turns"
    engine.longest_step = 16.0
    assert runner.patience == 160
    engine.expected_step = 20.0
    assert runner.patience == 200
    engine.first_of_kind = True
    assert runner.patience == 600
    engine.expected_step = 70.0
    assert runner.patience == 700


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process has one priority")
def test_its_thread_gives_way_and_no_other_does(
    family: StableDiffusion, desk: Desk, params: Params
) -> None:
    def priorities() -> dict[int, int]:
        threads = [int(task.name) for task in Path("/proc/self/task").iterdir()]
        return {thread: os.getpriority(os.PRIO_PROCESS, thread) for thread in threads}

    before = priorities()
    runner = EngineRunner(DiffusionEngine(family, max_batch=4), desk, niceness=5)
    runner.start()
    runner.submit(Request("one", params()))
    desk.wait_for(lambda: "one" in desk.final())
    after = priorities()
    runner.stop(drain=False, timeout=30)

    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert all(after[thread] == before[thread] for thread in before.keys() & after.keys())
    assert usual + 5 in {after[thread] for thread in after.keys() - before.keys()}


def test_costs_are_known_once_it_is_warm(runner: EngineRunner) -> None:
    """A replica that is soon stopped again has told what its pictures cost."""
    runner.wait_until_warm()
    assert runner.profiles()["default"]["denoise"]


def test_models_come_and_go_while_another_is_drawn_with(
    runner: EngineRunner, desk: Desk, params: Params, family: StableDiffusion
) -> None:
    twin = StableDiffusion(family.pipeline, family.description)
    runner.submit(Request("long", params(num_inference_steps=LONG)))
    desk.wait_for(lambda: "long" in desk.begun())
    runner.change_models({"twin": ModelSource(lambda: placed(twin), 1)}, ())
    runner.submit(Request("one", params(), model="twin"))
    desk.wait_for(lambda: "one" in desk.final())
    assert isinstance(desk.final()["one"], Result)

    runner.change_models({}, ["twin"])
    runner.submit(Request("two", params(), model="twin"))
    desk.wait_for(lambda: "two" in desk.final())
    failure = desk.final()["two"]
    assert isinstance(failure, Failure)
    assert "There is no model 'twin' here" in failure.reason
    assert "long" not in desk.final()
    runner.abort("long")
