"""The bookkeeping, with a graph that records and replays on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipelines.diffusion.speed.cuda_graphs import CudaGraphs


class Recorder:
    """``Capture`` as CUDA does it: replays read and write the same memory as the recorded pass."""

    def __init__(self, broken: bool = False, refuses: bool = False) -> None:
        self.captures = 0
        self.replays = 0
        self._broken = broken
        self._refuses = refuses

    def __call__(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        self.captures += 1
        if self._refuses:
            raise RuntimeError("operation not permitted when stream is capturing")
        outputs = run()

        def replay() -> None:
            self.replays += 1
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
    [(Recorder(refuses=True), "not permitted"), (Recorder(broken=True), "something else")],
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
