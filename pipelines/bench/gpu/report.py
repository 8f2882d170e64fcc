"""What the parts have found, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.bench.gpu.parts import ARCHITECTURES, Kind, Part

Results = Mapping[str, Any]
"""What a part found, by its name."""

_GIB = 2**30
_LARGE = 8


def markdown(parts: Sequence[Part], results: Results, reasons: Mapping[str, str]) -> str:
    """``reasons`` says of parts that found nothing why."""
    machine = next((each["machine"] for each in results.values()), None)
    lines = ["# On a GPU", ""]
    if machine is not None:
        lines += [
            f"{machine['device']}; torch {machine['torch']}, CUDA {machine['cuda']}, diffusers"
            f" {machine['diffusers']}, Python {machine['python']}; bfloat16; {machine['date']}.",
            "",
        ]
    found = [part for part in parts if part.name in results]
    lines += _parity([part for part in found if part.kind is Kind.PARITY], results)
    for architecture in ARCHITECTURES:
        of_it = [each for each in found if each.architecture is architecture]
        lines += _speed([part for part in of_it if part.kind is Kind.SPEED], results)
    lines += _memory([part for part in found if part.kind is Kind.MEMORY], results)
    lines += _traffic([part for part in found if part.kind is Kind.TRAFFIC], results)
    missing = [[part.name, reasons[part.name]] for part in parts if part.name in reasons]
    return "\n".join(lines + _table("Not measured", ["part", "why"], missing)) + "\n"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _parity(parts: Sequence[Part], results: Results) -> list[str]:
    """Errors against float32, over the picture's spread."""
    rows = []
    for part in parts:
        found = results[part.name]["found"]
        errors = (found[name] for name in ("diffusers", "alone", "batch", "batch_from_alone"))
        rows.append([part.architecture, part.label, *(f"{error:.2e}" for error in errors)])
    titles = ["model", "", "diffusers", "alone", "in a batch", "batch from alone"]
    return _table("Parity: error of a picture against float32", titles, rows)


def _speed(parts: Sequence[Part], results: Results) -> list[str]:
    """Each speed-up beside eager."""
    rows, eager = [], None
    for part in parts:
        result = results[part.name]
        found, peak = result["found"], result["peak_bytes"]
        points = {point["pictures"]: point for point in found["curve"]["points"]}
        large = points.get(_LARGE)
        if part.label == "eager" and large:
            eager = large["forward_s"]
        rows.append(
            [
                part.label,
                _ms(points.get(1)),
                _ms(large),
                f"{eager / large['forward_s']:.2f}x" if eager and large else "",
                f"{large['flops'] / 1e12:,.1f}" if large else "",
                f"{large['flops'] / found['roof']['flops']:.0%}" if large else "",
                f"{large['engine_ratio']:.3f}" if large else "",
                f"{large['whole_ratio']:.3f}" if large else "",
                "" if peak is None else f"{peak / _GIB:.1f} GiB",
            ]
        )
    titles = ["", "1 picture", "8 pictures", "against eager", "TFLOP/s", "of the roof"]
    titles += ["engine", "whole pictures", "peak"]
    return _table(f"Speed of {parts[0].architecture}" if parts else "", titles, rows)


def _memory(parts: Sequence[Part], results: Results) -> list[str]:
    rows = []
    for part in parts:
        found = results[part.name]["found"]
        sizes = (f"{found[name] / _GIB:.2f} GiB" for name in ("weights", "step", "decode", "cap"))
        counts = (str(found[name]) for name in ("errors", "drawn_capped", "drawn_after"))
        rows.append([part.architecture, *sizes, *counts])
    titles = ["model", "weights", "step of 8", "decode", "cap", "errors", "of 8 drawn", "uncapped"]
    return _table("Out of memory", titles, rows)


def _traffic(parts: Sequence[Part], results: Results) -> list[str]:
    rows = []
    for part in parts:
        for point in (results[part.name]["found"]["traffic"] or {"points": []})["points"]:
            for arm in point["arms"]:
                of_all = arm["overall"]
                seconds = (f"{of_all[name]:.2f} s" for name in ("p50_s", "p95_s"))
                rate = f"{of_all['throughput']:.2f}"
                rows.append([part.architecture, f"{point['load']:g}", arm["arm"], *seconds, rate])
    return _table("Mixed trace", ["model", "load", "arm", "p50", "p95", "pictures/s"], rows)


def _ms(point: Mapping[str, float] | None) -> str:
    return "" if point is None else f"{point['forward_s'] * 1000:,.2f} ms"


def _table(heading: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    body = [titles, ["---"] * len(titles), *rows]
    return [f"## {heading}", "", *(f"| {' | '.join(row)} |" for row in body), ""]
