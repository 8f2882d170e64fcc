"""A dashboard's panels as a picture, from what Prometheus answers to their own expressions."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, PercentFormatter

from loadtests.monitoring.dashboards import Dashboard, Panel
from loadtests.monitoring.prometheus import Prometheus, Series

COLUMNS = 3
_HEADROOM = 1.4
"""Above the highest value, for the legend."""
_WINDOW = "20s"
"""What `$__rate_interval` is here: several scrapes, and short beside a minute of load."""
_FORMATS = {
    "s": EngFormatter("s"),
    "reqps": FuncFormatter(lambda value, _: f"{value:g}/s"),
    "ops": FuncFormatter(lambda value, _: f"{value:g}/s"),
    "percentunit": PercentFormatter(1),
    "percent": PercentFormatter(100),
    "bytes": EngFormatter("B"),
}
"""Of Grafana's units; others are plain numbers."""
_STYLE: dict[Any, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "axes.edgecolor": "#9ca3af",
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 10,
    "font.size": 8,
    "legend.frameon": False,
    "legend.fontsize": 7,
}


async def draw(board: Dashboard, prometheus: Prometheus, seconds: float, path: Path) -> list[str]:
    """Draw the last ``seconds``; the titles of the panels that had nothing to show."""
    rows = -(-len(board.panels) // COLUMNS)
    empty = []
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(15, 2.9 * rows), layout="constrained")
        for place, panel in enumerate(board.panels):
            axes = figure.add_subplot(rows, COLUMNS, place + 1)
            if not await _draw(axes, panel, prometheus, seconds):
                empty.append(panel.title)
        figure.savefig(path, dpi=90, pil_kwargs={"quality": 85})
    return empty


async def _draw(axes: Axes, panel: Panel, prometheus: Prometheus, seconds: float) -> int:
    """How many lines the panel has."""
    now = time.time()
    for legend, expression in panel.queries.items():
        asked = expression.replace("$__rate_interval", _WINDOW)
        for series in await prometheus.series(asked, seconds):
            seconds_ago = [float(when) - now for when, _ in series["values"]]
            values = [float(value) for _, value in series["values"]]
            axes.plot(seconds_ago, values, label=_legend(legend, series), linewidth=1.4)
    axes.set_title(panel.title)
    axes.set_xlim(-seconds, 0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
    if panel.unit in _FORMATS:
        axes.yaxis.set_major_formatter(_FORMATS[panel.unit])
    lines = axes.get_lines()
    highest = max((np.nanmax(line.get_ydata(), initial=0) for line in lines), default=0)
    axes.set_ylim(0, _HEADROOM * highest or 1)
    if lines:
        axes.legend(loc="upper left", ncols=2)
    return len(lines)


def _legend(legend: str, series: Series) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: series["metric"].get(found[1], ""), legend)
