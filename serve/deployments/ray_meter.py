"""The meter's outlet in a replica: Ray's own metrics, which each node's agent shows Prometheus."""

from __future__ import annotations

from ray.serve import metrics as ray_metrics

from serve.observability.meter import Counter, Gauge, Histogram
from serve.observability.metrics import METRICS


class RayMeter:
    """A `Meter` in Ray's metrics, to be made within a replica: elsewhere they lack its labels.

    Ray's endpoint shows each name with ``ray_`` before it, and the labels ``application``,
    ``deployment`` and ``replica``. A histogram's counts are exact there, and its sum is not: Ray
    adds up the middles of the buckets.
    """

    def __init__(self) -> None:
        self._counters = {
            metric: ray_metrics.Counter(metric.name, metric.text, metric.labels)  # type: ignore[arg-type]
            for metric in METRICS
            if isinstance(metric, Counter)
        }
        self._gauges = {
            metric: ray_metrics.Gauge(metric.name, metric.text, metric.labels)  # type: ignore[arg-type]
            for metric in METRICS
            if isinstance(metric, Gauge)
        }
        self._histograms = {
            metric: ray_metrics.Histogram(
                metric.name,
                metric.text,
                list(metric.buckets),
                metric.labels,  # type: ignore[arg-type]
            )
            for metric in METRICS
            if isinstance(metric, Histogram)
        }

    def count(self, metric: Counter, amount: float = 1.0, /, **labels: str) -> None:
        if amount > 0:  # Ray refuses 0
            self._counters[metric].inc(amount, labels)

    def set(self, metric: Gauge, value: float, /, **labels: str) -> None:
        self._gauges[metric].set(value, labels)

    def observe(self, metric: Histogram, value: float, /, **labels: str) -> None:
        self._histograms[metric].observe(value, labels)
