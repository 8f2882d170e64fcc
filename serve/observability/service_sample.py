"""What Postgres holds at a scrape, as metrics of the whole service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_WORKER_LABELS = ["worker", "pool", "model", "device"]
_ENGINE_COUNTERS = (
    ("steps", "sfumato_engine_steps", "Denoising steps of the batch."),
    ("request_steps", "sfumato_engine_rows", "Requests advanced, summed over the steps."),
    ("finished", "sfumato_engine_finished", "Pictures finished."),
    ("failed", "sfumato_engine_failed", "Pictures failed."),
    ("aborted", "sfumato_engine_aborted", "Pictures aborted."),
    ("denoise_seconds", "sfumato_engine_denoise_seconds", "Seconds spent denoising."),
)


@dataclass(frozen=True, slots=True)
class WorkerSample:
    """A diffusion replica at its last heartbeat; ``stats`` are EngineStats' numbers."""

    id: str
    pool: str
    model: str
    device: str
    slots: int
    stats: Mapping[str, float]

    @property
    def labels(self) -> list[str]:
        return [self.id, self.pool, self.model, self.device]


@dataclass(frozen=True, slots=True, eq=False)
class ServiceSample(Collector):
    """The numbers that Postgres holds at the scrape: the same from every process."""

    jobs: Mapping[str, int]
    workers: Sequence[WorkerSample]
    deliveries: Mapping[str, int]
    """Webhook deliveries that have not arrived, by state."""
    backlog_seconds: Mapping[str, float]
    """By pool, as the next."""
    wait_seconds: Mapping[str, float]

    def collect(self) -> Iterable[Metric]:
        yield _gauge("sfumato_jobs", "Jobs by state.", "state", self.jobs)
        yield _gauge(
            "sfumato_backlog_seconds",
            "Predicted device seconds of the pictures that are queued, and half of those drawn.",
            "pool",
            self.backlog_seconds,
        )
        yield _gauge(
            "sfumato_wait_seconds",
            "Predicted seconds until all that is queued has begun.",
            "pool",
            self.wait_seconds,
        )
        yield _gauge(
            "sfumato_webhook_deliveries",
            "Webhook deliveries that have not arrived, by state.",
            "state",
            self.deliveries,
        )
        yield GaugeMetricFamily(
            "sfumato_workers",
            "Diffusion replicas with a fresh heartbeat.",
            value=len(self.workers),
        )
        for field, name, text in _ENGINE_COUNTERS:
            counter = CounterMetricFamily(name, text, labels=_WORKER_LABELS)
            for worker in self.workers:
                if field in worker.stats:
                    counter.add_metric(worker.labels, worker.stats[field])
            yield counter
        fill = GaugeMetricFamily(
            "sfumato_batch_fill",
            "Requests that shared a denoising step, on average since the replica's start.",
            labels=_WORKER_LABELS,
        )
        slots = GaugeMetricFamily(
            "sfumato_worker_slots", "Places in the replica's step batch.", labels=_WORKER_LABELS
        )
        for worker in self.workers:
            slots.add_metric(worker.labels, worker.slots)
            if steps := worker.stats.get("steps"):
                fill.add_metric(worker.labels, worker.stats.get("request_steps", 0) / steps)
        yield fill
        yield slots


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family
