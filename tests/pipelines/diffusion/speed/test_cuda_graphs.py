"""The bookkeeping, with a graph that records and replays on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipelines.diffusion.speed.cuda_graphs import CudaCapture, CudaGraphs

# As torch words them, in the capture and where it is ended.
UNSUPPORTED = torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing")
INVALIDATED = torch.AcceleratorError(
    "CUDA error: operation failed due to a previous error during capture"
)


class Recorder:
    """``Capture`` as CUDA does it: replays read and write the same memory as the recorded pass."""

    def __init__(
        self, broken: bool = False, empty: bool = False, refuses: Exception | None = None
    ) -> None:
        self.captures = 0
        self.replays = 0
        self._broken = broken
        self._empty = empty
        self._refuses = refuses

    def __call__(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        self.captures += 1
        if self._refuses:
            raise self._refuses
        outputs = run()

        def replay() -> None:
            self.replays += 1
            if self._empty:
                return
            for ours, new in zip(outputs, run(), strict=True):
                ours.copy_(new + 1 if self._broken else new)

        return replay, outputs


class Denoiser(nn.Module):
    """Takes tensors by position and name, in dicts and lists, as the real ones do."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        added: dict[str, Tensor] | None = None,
        residuals: list[Tensor] | None = None,
        return_dict: bool = True,
    ) -> tuple[Tensor]:
        assert not return_dict
        self.calls += 1
        output = sample * timestep.view(-1, 1)
        for each in (added or {}).values():
            output = output + each
        for each in residuals or ():
            output = output - each
        return (output,)


def graphed(recorder: Recorder, **options: Any) -> Denoiser:
    denoiser = Denoiser()
    vars(denoiser)["forward"] = CudaGraphs(denoiser.forward, recorder, **options)
    return denoiser


def arguments(rows: int, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    text, time, residual = torch.randn(3, rows, 3, generator=generator)
    return {
        "timestep": torch.rand(rows, generator=generator),
        "added": {"text_embeds": text, "time_ids": time},
        "residuals": [residual],
        "return_dict": False,
    }


def call(denoiser: Denoiser, rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The output, and what it should be."""
    asked = arguments(rows, seed)
    sample = torch.randn(rows, 3)
    return denoiser(sample, **asked)[0], Denoiser()(sample, **asked)[0]


def test_replays_with_new_inputs() -> None:
    recorder = Recorder()
    denoiser = graphed(recorder)
    outputs = [call(denoiser, rows=2, seed=seed) for seed in range(5)]
    for ours, expected in outputs:  # each its own memory: none was overwritten by a later replay
        assert torch.equal(ours, expected)
    assert recorder.captures == 1
    assert recorder.replays == 1 + 4  # one to see that it is right


def test_a_graph_for_each_shape() -> None:
    recorder = Recorder()
    denoiser = graphed(recorder)
    for rows in (1, 2, 4) * 3:
        ours, expected = call(denoiser, rows)
        assert torch.equal(ours, expected)
    assert recorder.captures == 3


def test_options_and_absent_arguments_are_part_of_the_shape() -> None:
    recorder = Recorder()
    denoiser = graphed(recorder)
    sample, timestep = torch.randn(2, 3), torch.rand(2)
    for _ in range(2):
        denoiser(sample, timestep, return_dict=False)
        denoiser(sample, timestep, added={"text_embeds": sample}, return_dict=False)
        denoiser(sample, timestep.double(), return_dict=False)
    assert recorder.captures == 3


def test_the_least_recently_used_graph_goes() -> None:
    recorder = Recorder()
    denoiser = graphed(recorder, limit=2)
    for rows in (1, 1, 2, 2, 1, 4, 4):  # 4 displaces 2
        call(denoiser, rows)
    assert recorder.captures == 3
    call(denoiser, 1)
    assert recorder.captures == 3
    ours, expected = call(denoiser, 2)
    call(denoiser, 2)
    assert recorder.captures == 4
    assert torch.equal(ours, expected)


def test_passes_that_hold_more_than_their_arguments_are_not_replayed() -> None:
    recorder = Recorder()
    running = [False]
    denoiser = graphed(recorder, bypass=lambda: running[0])
    for _ in range(3):
        call(denoiser, 2)
    replays = recorder.replays
    running[0] = True
    ours, expected = call(denoiser, 2)
    assert torch.equal(ours, expected)
    assert recorder.replays == replays


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (Recorder(refuses=RuntimeError("an uncapturable pass")), "an uncapturable pass"),
        (Recorder(refuses=INVALIDATED), "previous error during capture"),
        (Recorder(refuses=torch.OutOfMemoryError("CUDA out of memory")), "out of memory"),
        (Recorder(broken=True), "something else"),
        (Recorder(empty=True), "something else"),
    ],
)
def test_what_cannot_be_captured_runs_as_ever(
    recorder: Recorder, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    denoiser = graphed(recorder)
    for _ in range(4):
        ours, expected = call(denoiser, 2)
        assert torch.equal(ours, expected)
    assert recorder.captures == 1
    assert reason in caplog.text


def test_a_broken_device_is_told_by_the_eager_pass() -> None:
    denoiser = graphed(Recorder(refuses=INVALIDATED))
    call(denoiser, 2)
    passes = vars(denoiser)["forward"]
    vars(passes)["_forward"] = dies_after(passes._forward, calls=1)
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        call(denoiser, 2)


def dies_after(forward: Callable[..., Any], calls: int) -> Callable[..., Any]:
    made = count()

    def run(*args: Any, **kwargs: Any) -> Any:
        if next(made) >= calls:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return forward(*args, **kwargs)

    return run


class Driver:
    """Of what lies below torch.cuda.graph as much as to see what that leaves undone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current: object = "default stream"
        self.pools = count()
        self.allocating: set[int] = set()
        self.released: list[int] = []
        self.invalidated = False
        for name in ("synchronize", "empty_cache"):
            monkeypatch.setattr(torch.cuda, name, lambda: None)
        monkeypatch.setattr(torch._C, "_host_emptyCache", lambda: None, raising=False)
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", self.end, raising=False)
        monkeypatch.setattr(
            torch._C, "_cuda_releasePool", lambda _, pool: self.released.append(pool), raising=False
        )
        monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "Stream", lambda _: "capture stream")
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: next(self.pools))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self.current)
        monkeypatch.setattr(
            torch.cuda, "set_stream", lambda stream: setattr(self, "current", stream)
        )
        monkeypatch.setattr(torch.cuda, "stream", self.stream)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Graph(self))

    def end(self, _device: int, pool: int) -> None:
        if pool not in self.allocating:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.allocating.remove(pool)

    @contextmanager
    def stream(self, stream: object) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before


class Graph:
    """A torch.cuda.CUDAGraph whose capture cannot be ended once it is invalidated."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def capture_begin(self, pool: int, **_options: Any) -> None:
        self._pool = pool
        self._driver.allocating.add(pool)

    def capture_end(self) -> None:
        if self._driver.invalidated:
            self._driver.invalidated = False
            raise INVALIDATED
        self._driver.end(0, self._pool)

    def replay(self) -> None:
        """Nothing: what was captured has run already."""


@pytest.mark.parametrize(
    ("error", "invalidates", "next_pool"),
    [(UNSUPPORTED, True, 1), (torch.OutOfMemoryError("CUDA out of memory"), False, 0)],
)
def test_a_capture_that_fails_leaves_torch_as_it_was(
    error: Exception, invalidates: bool, next_pool: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that could not even be ended has the next begin a pool of its own."""
    driver = Driver(monkeypatch)
    capture = CudaCapture(torch.device("cuda"))

    def run() -> None:
        assert driver.current == "capture stream"
        driver.invalidated = invalidates
        raise error

    with pytest.raises(type(error)):
        capture(run)
    assert driver.current == "default stream"
    assert not driver.allocating
    assert driver.released == ([0] if invalidates else [])

    seen = []
    capture(lambda: seen.append(set(driver.allocating)))
    assert seen == [{next_pool}]
    assert driver.current == "default stream"
