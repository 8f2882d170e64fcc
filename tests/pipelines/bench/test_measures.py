"""What is measured, on a tiny model; how much it is, no test can say."""

from __future__ import annotations

import pytest
import torch

from pipelines.bench.calls import CallTime, measure_calls
from pipelines.bench.clock import WallClock
from pipelines.bench.curve import measure_curve
from pipelines.bench.denoiser import record_forward
from pipelines.bench.overhead import measure_overhead
from pipelines.bench.plan import Budget, Plan
from pipelines.bench.roof import measure_roof
from pipelines.bench.spans import Spans, watched
from pipelines.bench.subject import Subject

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

CPU = torch.device("cpu")


def test_the_raw_forward_has_two_rows_for_a_guided_picture(subject: Subject) -> None:
    one, four = (record_forward(subject, pictures) for pictures in (1, 4))
    assert one.calls[0][0][0].shape[0] == 2
    assert four.calls[0][0][0].shape[0] == 8
    assert four.flops() == 4 * one.flops() > 0
    one()
    assert len(one.calls) == 1  # nothing records any more


def test_curve(subject: Subject) -> None:
    curve = measure_curve(subject, Plan(batches=(1, 3), curve_steps=4), Budget(300))
    assert [point.pictures for point in curve.points] == [1, 3]
    assert curve.points[0].gain == 1
    assert curve.gain(3) == curve.points[1].gain
    assert curve.gain(8) is None
    assert not curve.left_out


def test_a_curve_without_time(subject: Subject) -> None:
    curve = measure_curve(subject, Plan(batches=(1, 3), curve_steps=4), Budget(0))
    assert [point.pictures for point in curve.points] == [1]
    assert curve.left_out == ["3 pictures: would take longer than the time given"]


def test_overhead(subject: Subject) -> None:
    step, preview = measure_overhead(subject, steps=5, pictures=3)
    assert min(step.denoiser_s, step.scheduler_s, step.assembly_s, step.engine_s) > 0
    assert step.overhead == (step.assembly_s + step.engine_s) / step.denoiser_s
    assert min(step.join_s, step.leave_s, preview.preview_s, preview.share) > 0


def test_spans_leave_no_trace(subject: Subject) -> None:
    scheduler = type(subject.pipeline.scheduler)
    before = scheduler.step
    with watched(subject):
        assert "forward" in vars(subject.denoiser)
        assert scheduler.step is not before
    assert "forward" not in vars(subject.denoiser)
    assert "denoise" not in vars(subject.family)
    assert scheduler.step is before


def test_spans_count_each_part_without_its_parts() -> None:
    spans = Spans(CPU, WallClock())
    inner = spans.timed("inner", lambda: sum(range(100_000)))
    outer = spans.timed("outer", lambda: [inner() for _ in range(20)])
    outer()
    own = spans.take()
    assert own["inner"] > own["outer"] > 0
    assert spans.take() == {}


def test_calls(subject: Subject) -> None:
    call = measure_calls(subject, 2, limit_s=0)
    assert call.pictures == 2
    assert call.seconds(4) >= call.seconds(2) > 0


def test_capacity() -> None:
    assert CallTime(8, step_s=0.5, rest_s=2.0).capacity(20) == pytest.approx(8 / 12)


def test_roof() -> None:
    assert measure_roof(CPU, torch.float32, WallClock(), limit_s=0).flops > 0
