"""The meter's outlet for a process that is scraped itself, and what a scrape is answered."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client import Counter as PrometheusCounter
from prometheus_client import Gauge as PrometheusGauge
from prometheus_client import Histogram as PrometheusHistogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from serve.observability.meter import Counter, Gauge, Histogram
from serve.observability.metrics import METRICS


class Registry:
    """A `Meter` that keeps every metric of `METRICS` for a scrape of this process.

    Their series carry a ``process`` label: behind a load balancer a scrape reaches any one
    ingress, and without it the counters of two would look like one that jumps back.
    """

    def __init__(self, exemplar: Callable[[], dict[str, str] | None] = lambda: None) -> None:
        """``exemplar`` are the labels of the one that a histogram's value is shown with now."""
        self._registry = CollectorRegistry()
        self._process = secrets.token_hex(4)
        self._exemplar = exemplar
        self._counters: dict[Counter, PrometheusCounter] = {}
        self._gauges: dict[Gauge, PrometheusGauge] = {}
        self._histograms: dict[Histogram, PrometheusHistogram] = {}
        for metric in METRICS:
            labels = ("process", *metric.labels)
            match metric:
                case Counter(name, text):
                    counter = PrometheusCounter(name, text, labels, registry=self._registry)
                    self._counters[metric] = counter
                case Gauge(name, text):
                    gauge = PrometheusGauge(name, text, labels, registry=self._registry)
                    self._gauges[metric] = gauge
                case Histogram(name, text, buckets):
                    self._histograms[metric] = PrometheusHistogram(
                        name, text, labels, buckets=buckets, registry=self._registry
                    )
        for kept in (self._counters, self._gauges, self._histograms):
            for metric, shown in kept.items():
                if not metric.labels:
                    shown.labels(self._process)  # shown as 0 from the start

    def count(self, metric: Counter, amount: float = 1.0, /, **labels: str) -> None:
        self._counters[metric].labels(process=self._process, **labels).inc(amount)

    def set(self, metric: Gauge, value: float, /, **labels: str) -> None:
        self._gauges[metric].labels(process=self._process, **labels).set(value)

    def observe(self, metric: Histogram, value: float, /, **labels: str) -> None:
        histogram = self._histograms[metric].labels(process=self._process, **labels)
        histogram.observe(value, self._exemplar())

    def render(self, accept: str, *collectors: Collector) -> tuple[bytes, str]:
        """What it has kept and what the collectors tell, and the media type of that.

        OpenMetrics' text form where ``accept``, the header, asks for it, else Prometheus' own.
        Exemplars are in the former alone.
        """
        scrape = CollectorRegistry()
        for collector in (self._registry, *collectors):
            scrape.register(collector)
        encode, media_type = choose_encoder(accept)
        return encode(scrape), media_type
