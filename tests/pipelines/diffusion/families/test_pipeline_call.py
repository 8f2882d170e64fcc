from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar

import pytest
import torch
from greenlet import greenlet

from pipelines.diffusion.families.pipeline_call import PipelineCall, StepCallback

Modes = tuple[bool, bool]

MODES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "plain": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}

variable: ContextVar[str] = ContextVar("variable")


@pytest.fixture(params=MODES)
def outside(request: pytest.FixtureRequest) -> Iterator[Modes]:
    with MODES[request.param]():
        yield modes()


def modes() -> Modes:
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled()


class Loop:
    """As a pipeline loops: under ``no_grad``, a callback after each of three steps."""

    def __init__(self, raises: BaseException | None = None) -> None:
        self.raises = raises
        self.seen: list[Modes] = []
        self.threads: set[int] = set()
        self.ended = False

    @torch.no_grad()
    def __call__(self, on_step: StepCallback) -> str:
        try:
            for step in range(3):
                with torch.enable_grad(), torch.inference_mode():
                    on_step(torch.full((1,), step))
                self.seen.append(modes())
                self.threads.add(threading.get_ident())
            if self.raises is not None:
                raise self.raises
        finally:
            self.ended = True
        return "pictures"


def test_a_step_at_a_time(outside: Modes) -> None:
    """The modes outside are what they were after each switch, and inside as well."""
    loop = Loop()
    call = PipelineCall(loop)
    for step in range(3):
        call.advance()
        assert (call.steps, call.latents, call.finished) == (step + 1, torch.tensor([step]), False)
        assert modes() == outside
    call.advance()
    assert (call.steps, call.output, call.finished) == (3, "pictures", True)
    assert modes() == outside
    assert loop.seen == [(False, True)] * 3


def test_modes_that_change_outside_between_the_steps() -> None:
    loop = Loop()
    call = PipelineCall(loop)
    while not call.finished:
        for mode in MODES.values():
            with mode():
                before = modes()
                if not call.finished:
                    call.advance()
                assert modes() == before
    assert loop.seen == [(False, True)] * 3
    assert modes() == (True, False)


def test_it_starts_no_thread() -> None:
    loop, before = Loop(), threading.active_count()
    call = PipelineCall(loop)
    while not call.finished:
        call.advance()
        assert threading.active_count() == before
    assert loop.threads == {threading.get_ident()}


@pytest.mark.parametrize("error", [ValueError("of the call"), KeyboardInterrupt()])
def test_what_the_call_raises_is_raised_by_the_last_step(
    outside: Modes, error: BaseException
) -> None:
    call = PipelineCall(Loop(raises=error))
    for _ in range(3):
        call.advance()
    with pytest.raises(type(error)) as raised:
        call.advance()
    assert raised.value is error
    assert (call.finished, call.output, modes()) == (True, None, outside)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_closed_in_the_midst(outside: Modes, steps: int) -> None:
    loop = Loop()
    call = PipelineCall(loop)
    for _ in range(steps):
        call.advance()
    call.close()
    assert (call.finished, call.output, modes()) == (True, None, outside)
    assert loop.ended == (steps > 0)
    call.close()  # again, to no effect
    assert modes() == outside


def test_one_that_is_dropped_ends(outside: Modes) -> None:
    loop = Loop()
    call = PipelineCall(loop)
    call.advance()
    del call
    assert loop.ended
    assert modes() == outside


def test_one_that_another_thread_drops_leaves_its_modes_alone(outside: Modes) -> None:
    calls: list[PipelineCall] = []

    def begin() -> None:
        calls.append(PipelineCall(Loop()))
        calls[0].advance()

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    calls.clear()
    gc.collect()
    assert modes() == outside


def test_whoever_advances_gets_the_step() -> None:
    """A greenlet among them, as under SQLAlchemy's asyncio."""
    call = PipelineCall(Loop())
    greenlet(call.advance).switch()
    assert call.steps == 1
    call.advance()
    assert call.steps == 2
    greenlet(call.close).switch()
    assert call.finished


def test_context_variables() -> None:
    seen = []

    def talk(on_step: StepCallback) -> None:
        for step in range(2):
            seen.append(variable.get())
            variable.set(f"inside {step}")
            on_step(torch.empty(0))

    token = variable.set("outside")
    call = PipelineCall(talk)
    while not call.finished:
        call.advance()
        assert variable.get() == "outside"
    variable.reset(token)
    assert seen == ["outside", "inside 0"]
