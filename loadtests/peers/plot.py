"""The report's figure: latency by rate, as an SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from loadtests.peers.arms import Arm
from loadtests.peers.figures import Latency
from loadtests.peers.report import Rate, rates
from loadtests.peers.results import Results

_COLOURS = dict(
    zip(Arm, ("#b3261e", "#8a8a8a", "#1b6ca8", "#2e7d32", "#7b4fa3", "#c77700"), strict=True)
)
_WIDTH, _HEIGHT, _MARGIN = 360, 240, 50
_FIGURES: dict[str, Callable[[Latency], float]] = {
    "p50": lambda latency: latency.p50,
    "p95": lambda latency: latency.p95,
}


def svg(results: Results) -> str:
    """A row of two panels for each trace that was replayed."""
    panels, row = [], 0
    for subject in results.subjects:
        by_rate = rates(results, subject)
        if not by_rate:
            continue
        for column, (name, of) in enumerate(_FIGURES.items()):
            title = f"{subject.trace}, {subject.size} px: {name}, s"
            place = (column * (_WIDTH + _MARGIN), row * (_HEIGHT + _MARGIN))
            panels.append(_panel(title, by_rate, of, *place))
        row += 1
    width, height = 2 * (_WIDTH + _MARGIN) + _MARGIN, row * (_HEIGHT + _MARGIN) + 40
    legend = "".join(
        f'<text x="{_MARGIN + 120 * place}" y="{height - 10}" fill="{colour}">{arm}</text>'
        for place, (arm, colour) in enumerate(_COLOURS.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(panels)}{legend}</svg>\n"
    )


def _panel(
    title: str, by_rate: Sequence[Rate], of: Callable[[Latency], float], left: int, top: int
) -> str:
    """Seconds on a logarithmic scale; a ring where some were not drawn, so that it may be more."""
    values = [of(latency) for each in by_rate for latency in each.latencies.values()]
    low, high = math.log10(min(values)) - 0.05, math.log10(max(values)) + 0.05
    last = max(each.rate for each in by_rate) * 1.05

    def at(rate: float, seconds: float) -> tuple[float, float]:
        x = _MARGIN + rate / last * (_WIDTH - _MARGIN)
        return x, _HEIGHT - (math.log10(seconds) - low) / (high - low) * (_HEIGHT - _MARGIN)

    parts = [f'<text x="{_MARGIN}" y="{_MARGIN - 12}" font-weight="bold">{title}</text>']
    for seconds in (m * 10**e for e in range(-2, 4) for m in (1, 2, 5)):
        if low <= math.log10(seconds) <= high:
            y = at(0, seconds)[1]
            parts.append(
                f'<line x1="{_MARGIN}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
                f'<text x="{_MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{seconds:g}</text>'
            )
    for each in by_rate:
        x = at(each.rate, 10**low)[0]
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT + 16}" text-anchor="middle">{each.rate:.2f}/s</text>'
        )
    parts += [_line(arm, by_rate, of, at) for arm in Arm]
    return f'<g transform="translate({left},{top})">{"".join(parts)}</g>'


def _line(
    arm: Arm,
    by_rate: Sequence[Rate],
    of: Callable[[Latency], float],
    at: Callable[[float, float], tuple[float, float]],
) -> str:
    found = [(each.rate, each.latencies[arm]) for each in by_rate if arm in each.latencies]
    points = [(*at(rate, of(latency)), latency.missing) for rate, latency in found]
    colour = _COLOURS[arm]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" stroke="{colour}"'
        f' fill="{"white" if missing else colour}"/>'
        for x, y, missing in points
    )
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'
