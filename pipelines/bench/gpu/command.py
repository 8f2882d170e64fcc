"""`python -m pipelines.bench gpu`: all that a CUDA machine is to tell, within so many minutes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import typer

from pipelines.bench.gpu.parts import Part, parts
from pipelines.bench.gpu.report import markdown, read
from pipelines.bench.plan import Budget

_LEAST_S = 45.0
"""A part is begun with no less, and has so much before it is given up."""
_PATIENCE = 2.0  # shares of the time that a part may take: others need less than theirs
_NO_CUDA = "needs a CUDA device"
_NO_TIME = "no time was left; run it again with the same --out"


def gpu(
    out: Annotated[Path, typer.Option(help="A folder, for a file a part and report.md.")],
    minutes: Annotated[float, typer.Option(min=1, help="For the whole run.")] = 25.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    only: Annotated[str, typer.Option(help="Parts whose name is like this, as 'parity-*'.")] = "*",
    quick: Annotated[bool, typer.Option("--quick", help="Tiny models; see that it runs.")] = False,
) -> None:
    """Measure parity, speed-ups, memory and traffic on a CUDA device, each by itself.

    A part that is measured in --out already is left out, so that a second run goes on.
    """
    import torch

    out.mkdir(parents=True, exist_ok=True)
    on_cuda = device != "cpu" and torch.cuda.is_available()
    wanted = [part for part in parts(quick) if fnmatch(part.name, only)]
    reasons = {part.name: _NO_CUDA for part in wanted if part.needs_cuda and not on_cuda}
    left = [part for part in wanted if part.name not in reasons and not _path(out, part).is_file()]
    budget = Budget(minutes * 60)
    child = _start() if left else None
    for i, part in enumerate(left):
        if budget.left < _LEAST_S:
            reasons[part.name] = _NO_TIME
            continue
        assert child is not None  # noqa: S101 - started where anything is left
        share = budget.left * part.weight / sum(each.weight for each in left[i:])
        limit = min(budget.left, max(_LEAST_S, _PATIENCE * share))
        order = {"part": part.name, "device": device, "quick": quick, "seconds": share}
        current, child = child, _start()  # which imports torch meanwhile
        try:
            failure = _measure(current, order | {"path": str(_path(out, part))}, limit)
        except BaseException:
            _end(current)
            _end(child)
            raise
        if failure is not None:
            reasons[part.name] = failure
        typer.echo(f"{part.name}: {failure or 'measured'}")
        _write(out, wanted, reasons)
    if child is not None:
        _end(child)
    _write(out, wanted, reasons)
    typer.echo(str(out / "report.md"))


def _start() -> subprocess.Popen[str]:
    """In a session of its own: what compiles for it ends with it."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.bench.gpu.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _measure(child: subprocess.Popen[str], order: dict[str, object], limit: float) -> str | None:
    """Why there is no result; None if there is one."""
    try:
        _, told = child.communicate(json.dumps(order) + "\n", timeout=limit)
    except subprocess.TimeoutExpired:
        _end(child)
        return f"took longer than {limit:.0f} s"
    if child.returncode < 0:
        return f"ended by {signal.Signals(-child.returncode).name}"
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return (lines or ["said nothing"])[-1].replace("|", "/") if child.returncode else None


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def _path(out: Path, part: Part) -> Path:
    return out / f"{part.name}.json"


def _write(out: Path, wanted: list[Part], reasons: dict[str, str]) -> None:
    paths = {part.name: _path(out, part) for part in wanted}
    results = {name: read(path) for name, path in paths.items() if path.is_file()}
    (out / "report.md").write_text(markdown(wanted, results, reasons), encoding="utf-8")
