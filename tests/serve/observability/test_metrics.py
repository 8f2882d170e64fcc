"""The table of a process's metrics keeps the conventions of Prometheus, and its own."""

from __future__ import annotations

import re

import pytest

from serve.observability.meter import Counter, Gauge, Histogram, Metric
from serve.observability.metrics import METRICS, PICTURE_STAGE, STAGES

UNITS = ("_bytes", "_celsius", "_ratio", "_seconds", "_watts")
COUNTED = {  # no unit: these are numbers of things
    "sfumato_database_connections",
    "sfumato_event_sockets",
    "sfumato_step_batch_size",
}
LABELS = {
    "cache",
    "code",
    "device",
    "fault",
    "kind",
    "method",
    "model",
    "operation",
    "pool",
    "reason",
    "result",
    "route",
    "size",
    "stage",
    "state",
    "status",
    "type",
}
"""Of each somebody other than a client decides how many values there are, or `FirstValues` does."""
OF_RAY = {"application", "deployment", "replica"}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_keeps_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"sfumato_[a-z][a-z_]*[a-z]", metric.name)
    assert metric.text.startswith("This process: ")
    assert metric.text.endswith(".")
    assert set(metric.labels) <= LABELS - OF_RAY
    assert isinstance(metric, Counter) == metric.name.endswith("_total")
    if isinstance(metric, Gauge | Histogram):
        assert metric.name.endswith(UNITS) or metric.name in COUNTED
    if isinstance(metric, Histogram):
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert metric.buckets[0] > 0, "Ray refuses others"
        assert not metric.name.endswith(("_count", "_sum", "_bucket"))


def test_each_is_in_the_table_once() -> None:
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names)) > 30
    assert PICTURE_STAGE in METRICS
    assert len(set(STAGES)) == 8
