"""docs/metrics.md lists every metric, as the tables in the code define them."""

from __future__ import annotations

import re
from pathlib import Path

from serve.observability.meter import Counter, Gauge, Histogram, Metric
from serve.observability.metrics import METRICS, STAGES
from serve.observability.service_sample import SERVICE_METRICS

PAGE = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
KINDS = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}


def row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
    text = metric.text.partition(": ")[2]
    return f"| `{metric.name}` | {KINDS[type(metric)]} | {labels} | {text} |"


def test_the_page_lists_each_metric_in_the_tables_order() -> None:
    listed = re.findall(r"^\| `sfumato_.*$", PAGE, re.MULTILINE)
    assert listed == [row(metric) for metric in (*METRICS, *SERVICE_METRICS)]


def test_the_page_names_the_stages_in_order() -> None:
    assert ", ".join(f"`{stage}`" for stage in STAGES) in PAGE
