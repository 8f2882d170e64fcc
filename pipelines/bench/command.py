"""The flags of `sfumato bench engine`, which are those of `python -m pipelines.bench` as well."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from pipelines.bench.output_file import output_file
from pipelines.bench.plan import ArchitectureName, ArmName, ClockName, Plan
from pipelines.bench.speed_ups import EAGER, with_speed_ups
from pipelines.diffusion.errors import DiffusionError
from pipelines.diffusion.speed.acceleration import Acceleration

T = TypeVar("T")

_WIDTH = 110  # columns, where there is no terminal to ask


class Dtype(StrEnum):
    """As the setting of the same name."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def engine(
    model: Annotated[
        str | None, typer.Option(help="Folder or hub id; the embedded model by default.")
    ] = None,
    architecture: Annotated[
        ArchitectureName | None,
        typer.Option(help="Instead of a model: built from its published configuration."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Of weights and latents.")] = Dtype.AUTO,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch.")] = None,
    clock: Annotated[
        ClockName, typer.Option(help="cpu: of one thread, where others share the machine.")
    ] = ClockName.WALL,
    eager: Annotated[
        bool, typer.Option("--eager", help="Every speed-up off, unless it is asked for.")
    ] = False,
    speed_up: Annotated[
        list[str] | None, typer.Option(help="As compile=always; any number of times.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=8, help="Side of the pictures in pixels; else the model's.")
    ] = None,
    arms: Annotated[str, typer.Option(help="Of the trace, comma between; '' for none.")] = ",".join(
        ArmName
    ),
    loads: Annotated[
        str, typer.Option(help="Shares of the batch-8 capacity, comma between.")
    ] = "0.3,0.6,0.85,1.1",
    requests: Annotated[int, typer.Option(min=9, help="In each pass of an arm, at most.")] = 54,
    minutes: Annotated[
        float, typer.Option(min=0.1, help="For the whole run; what does not fit is left out.")
    ] = 30.0,
    seed: Annotated[int, typer.Option(help="Of the trace: same seed, same requests.")] = 0,
    json_path: Annotated[
        Path | None,
        typer.Option("--json", help="Where to write it all.", callback=output_file),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only see that it runs.")] = False,
) -> None:
    """Measure the engine against the raw denoiser, static batches and a plain diffusers loop."""
    if model is not None and architecture is not None:
        raise typer.BadParameter("give a model or an architecture, not both.")
    plan = Plan(
        model=model,
        architecture=architecture,
        device=device,
        dtype=dtype.value,
        threads=threads,
        clock=clock,
        acceleration=_acceleration(eager, speed_up or []),
        size=size,
        arms=_listed(arms, ArmName, "--arms"),
        loads=_listed(loads, float, "--loads"),
        requests=requests,
        minutes=minutes,
        seed=seed,
    )
    _measure(plan.quick() if quick else plan, json_path)


def _measure(plan: Plan, json_path: Path | None) -> None:
    # torch takes seconds to import, which `--help` should not wait for.
    from rich.console import Console

    from pipelines.bench.report import show
    from pipelines.bench.run import run

    progress = Console(stderr=True, highlight=False)
    try:
        report = run(plan, lambda section: progress.print(f"… {section}"))
    except DiffusionError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    wide = None if sys.stdout.isatty() else _WIDTH
    show(report, Console(highlight=False, width=wide))
    if json_path is not None:
        json_path.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
        typer.echo(str(json_path))


def _acceleration(eager: bool, asked: list[str]) -> Acceleration:
    try:
        return with_speed_ups(EAGER if eager else Acceleration(), asked)
    except ValueError as error:
        raise typer.BadParameter(f"{error}", param_hint="--speed-up") from error


def _listed(text: str, kind: Callable[[str], T], flag: str) -> tuple[T, ...]:
    try:
        return tuple(kind(each.strip()) for each in text.split(",") if each.strip())
    except ValueError as error:
        raise typer.BadParameter(f"{error}", param_hint=flag) from error
