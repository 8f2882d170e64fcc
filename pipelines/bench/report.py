"""What a run found, as JSON and as tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.bench.calls import CallTime
from pipelines.bench.curve import BatchCurve
from pipelines.bench.machine import Machine
from pipelines.bench.overhead import PreviewCost, StepCost
from pipelines.bench.plan import ClockName, Plan
from pipelines.bench.roof import Roof
from pipelines.bench.speed_ups import names_of_what_is_on
from pipelines.bench.traffic import Clients, LoadPoint, Traffic
from pipelines.diffusion.speed.acceleration import Acceleration

FORMAT = 1
"""Raised when a field of the JSON changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class Model:
    """``parameters`` are the denoiser's; ``width`` and ``height`` in pixels.

    ``acceleration`` is what is on, where the plan has what was asked for.
    """

    name: str
    pipeline: str
    parameters: int
    dtype: str
    width: int
    height: int
    acceleration: Acceleration | None
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Report:
    """Times are in seconds, rates in one per second; None is what time did not suffice for."""

    plan: Plan
    machine: Machine
    model: Model
    roof: Roof
    curve: BatchCurve
    step: StepCost | None
    preview: PreviewCost | None
    alone: CallTime | None
    full: CallTime | None
    traffic: Traffic | None
    clients: Clients | None
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Ready for json.dumps."""
        return {"bench": "engine", "format": FORMAT, **asdict(self)}


def show(report: Report, console: Console) -> None:
    """The tables, one after the other."""
    machine, model = report.machine, report.model
    console.print(
        f"[bold]{model.name}[/] ({model.pipeline}, {model.parameters / 1e6:,.1f} M parameters,"
        f" {model.dtype}, {model.width}x{model.height} pixels)"
    )
    console.print(
        f"{machine.device}, {machine.threads} threads; torch {machine.torch},"
        f" diffusers {machine.diffusers}, Python {machine.python}; {machine.date},"
        f" load average {machine.load_average:.1f} at the start"
    )
    if model.acceleration is not None:
        console.print(f"Speed-ups: {', '.join(names_of_what_is_on(model.acceleration))}")
    if report.plan.clock is ClockName.CPU:
        console.print("Note: seconds are those of one processor for this process alone.")
    for note in model.notes:
        console.print(f"Note: {note}")
    console.print(_curve(report.curve, report.roof))
    if report.step is not None and report.preview is not None:
        console.print(_step(report.step, report.preview))
    if report.traffic is not None:
        console.print(_traffic(report.traffic))
    if report.clients is not None:
        console.print(_clients(report.clients))
    left_out = report.curve.left_out + (report.traffic.left_out if report.traffic else [])
    if report.traffic is None:
        left_out.append("arms: no batch of 8 was measured, or no arm asked for")
    for line in left_out:
        console.print(f"Left out: {line}")


def _curve(curve: BatchCurve, roof: Roof) -> Table:
    table = Table(
        title="Batch curve",
        caption=f"A guided picture's step is {curve.flops_per_picture / 1e9:,.2f} GFLOP;"
        f" matrix products run at {roof.flops / 1e12:,.3f} TFLOP/s.",
    )
    for name in ("pictures", "forward", "gain", "TFLOP/s", "of roof", "engine", "whole pictures"):
        table.add_column(name, justify="right")
    for point in curve.points:
        table.add_row(
            str(point.pictures),
            _ms(point.forward_s),
            f"{point.gain:.2f}x",
            f"{point.flops / 1e12:,.3f}",
            f"{point.flops / roof.flops:.0%}",
            f"{point.engine_ratio:.3f}",
            f"{point.whole_ratio:.3f}",
        )
    return table


def _step(step: StepCost, preview: PreviewCost) -> Table:
    table = Table(title="A step of 8 pictures")
    table.add_column("part")
    table.add_column("time", justify="right")
    table.add_column("of the denoiser", justify="right")
    parts = {
        "denoiser": step.denoiser_s,
        "noise schedulers": step.scheduler_s,
        "rows and guidance": step.assembly_s,
        "the rest of the engine": step.engine_s,
    }
    for name, seconds in parts.items():
        table.add_row(name, _ms(seconds), f"{seconds / step.denoiser_s:.2%}")
    table.add_row("[bold]overhead[/] (the last two)", "", f"[bold]{step.overhead:.2%}[/]")
    table.add_row("joining, a picture", _ms(step.join_s), "")
    table.add_row("VAE, a picture", _ms(step.leave_s), "")
    table.add_row("a preview", _ms(preview.preview_s), "")
    table.add_row(f"previews every {preview.every} steps", "", f"{preview.share:.2%} of the step")
    table.add_row("the same, by whole steps", "", f"{preview.paired_share:.2%} of the step")
    return table


def _traffic(traffic: Traffic) -> Table:
    table = Table(
        title="Mixed trace",
        caption=f"Load 1 is what full calls of 8 would serve: {traffic.capacity:.3f} pictures/s.",
    )
    for name in (
        "load",
        "arm",
        "p50",
        "p95",
        "p50 by pass",
        "within 5x",
        "pictures/s",
        "unfinished",
    ):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for point in traffic.points:
        _add_load(table, point)
    return table


def _add_load(table: Table, point: LoadPoint) -> None:
    for each in point.arms:
        latency = each.overall
        table.add_row(
            f"{point.load:g}",
            each.arm.value,
            f"{latency.p50_s:.2f} s",
            f"{latency.p95_s:.2f} s",
            ", ".join(f"{once.p50_s:.2f}" for once in each.passes),
            f"{latency.within_5x:.0%}",
            f"{latency.throughput:.3f}",
            str(latency.unfinished),
        )
    for other in point.step_batching_against:
        table.add_row(
            "",
            f"  against {other.arm.value}",
            f"{other.p50:.2f}x",
            f"{other.p95:.2f}x",
            "",
            f"{other.within_5x:+.0f} points",
            f"{other.throughput:.2f}x",
            "",
        )
    table.add_section()


def _clients(clients: Clients) -> Table:
    table = Table(title=f"{clients.clients} clients who never stop asking")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("step batching", f"{clients.step_batching:.3f} pictures/s")
    table.add_row("loop", f"{clients.loop:.3f} pictures/s")
    table.add_row("ratio", f"{clients.ratio:.2f}x")
    if clients.raw_gain is not None and clients.of_raw_gain is not None:
        table.add_row("raw gain at 8", f"{clients.raw_gain:.2f}x")
        table.add_row("ratio over raw gain", f"{clients.of_raw_gain:.2f}")
    return table


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.2f} ms"
