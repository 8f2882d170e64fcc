"""What Postgres holds at a scrape, as metrics of the whole service: the same from every process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import metrics_core
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from serve.observability.meter import Counter, Gauge

_OF_WORKER = ("worker", "pool", "model", "device")
_OF_QUEUE = ("pool", "priority")

JOBS = Gauge(
    "sfumato_jobs",
    "Whole service: jobs by state; those that have ended have no pool and no model here.",
    ("state", "pool", "model"),
)
QUEUE_PICTURES = Gauge(
    "sfumato_queue_pictures", "Whole service: pictures that wait for a worker.", _OF_QUEUE
)
QUEUE_OLDEST = Gauge(
    "sfumato_queue_oldest_seconds",
    "Whole service: seconds since the oldest of them was queued; 0 where there is none.",
    _OF_QUEUE,
)
QUEUE_SECONDS = Gauge(
    "sfumato_queue_seconds",
    "Whole service: predicted device seconds of the pictures that wait.",
    _OF_QUEUE,
)
BACKLOG = Gauge(
    "sfumato_backlog_seconds",
    "Whole service: predicted device seconds of the pictures that wait, and half of those drawn.",
    ("pool",),
)
WAIT = Gauge(
    "sfumato_wait_seconds",
    "Whole service: predicted seconds until all that waits has begun.",
    ("pool",),
)
WORKERS = Gauge(
    "sfumato_workers", "Whole service: diffusion replicas with a fresh heartbeat.", ("pool",)
)
DELIVERIES = Gauge(
    "sfumato_webhook_deliveries",
    "Whole service: webhook deliveries that have not arrived, by state.",
    ("state",),
)
ENGINE = {
    "steps": Counter(
        "sfumato_engine_steps_total", "Whole service: denoising steps of the batch.", _OF_WORKER
    ),
    "request_steps": Counter(
        "sfumato_engine_rows_total",
        "Whole service: requests advanced, summed over the steps.",
        _OF_WORKER,
    ),
    "finished": Counter(
        "sfumato_engine_finished_total", "Whole service: pictures finished.", _OF_WORKER
    ),
    "failed": Counter("sfumato_engine_failed_total", "Whole service: pictures failed.", _OF_WORKER),
    "aborted": Counter(
        "sfumato_engine_aborted_total", "Whole service: pictures aborted.", _OF_WORKER
    ),
    "denoise_seconds": Counter(
        "sfumato_engine_denoise_seconds_total",
        "Whole service: seconds spent denoising.",
        _OF_WORKER,
    ),
}
"""By the field of EngineStats, as each worker's last heartbeat brought it."""
BATCH_FILL = Gauge(
    "sfumato_batch_fill",
    "Whole service: requests that shared a denoising step, on average since the replica's start.",
    _OF_WORKER,
)
SLOTS = Gauge(
    "sfumato_worker_slots", "Whole service: places in the replica's step batch.", _OF_WORKER
)

SERVICE_METRICS: tuple[Counter | Gauge, ...] = (
    JOBS,
    QUEUE_PICTURES,
    QUEUE_OLDEST,
    QUEUE_SECONDS,
    BACKLOG,
    WAIT,
    WORKERS,
    DELIVERIES,
    *ENGINE.values(),
    BATCH_FILL,
    SLOTS,
)
"""All of them."""


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
    def labels(self) -> tuple[str, ...]:
        return (self.id, self.pool, self.model, self.device)


@dataclass(frozen=True, slots=True)
class QueueSample:
    """The pictures of a pool and a ``priority`` (low, normal, high) that wait for a worker."""

    pool: str
    priority: str
    pictures: int = 0
    seconds: float = 0.0
    oldest_s: float = 0.0

    @property
    def labels(self) -> tuple[str, ...]:
        return (self.pool, self.priority)


@dataclass(frozen=True, slots=True, eq=False)
class ServiceSample(Collector):
    """The numbers at one moment."""

    jobs: Mapping[tuple[str, str, str], int]
    """By state, pool and model; an ended job's pool and model are empty."""
    queues: Sequence[QueueSample]
    workers: Sequence[WorkerSample]
    deliveries: Mapping[str, int]
    """Webhook deliveries that have not arrived, by state."""
    backlog_seconds: Mapping[str, float]
    """By pool, as the next."""
    wait_seconds: Mapping[str, float]

    def collect(self) -> Iterable[metrics_core.Metric]:
        yield _family(JOBS, self.jobs)
        yield _family(QUEUE_PICTURES, {each.labels: each.pictures for each in self.queues})
        yield _family(QUEUE_OLDEST, {each.labels: each.oldest_s for each in self.queues})
        yield _family(QUEUE_SECONDS, {each.labels: each.seconds for each in self.queues})
        yield _family(BACKLOG, _by_one(self.backlog_seconds))
        yield _family(WAIT, _by_one(self.wait_seconds))
        pools = {
            pool: sum(worker.pool == pool for worker in self.workers)
            for pool in [*self.backlog_seconds, *(worker.pool for worker in self.workers)]
        }
        yield _family(WORKERS, _by_one(pools))
        yield _family(DELIVERIES, _by_one(self.deliveries))
        for field, metric in ENGINE.items():
            counted = [worker for worker in self.workers if field in worker.stats]
            yield _family(metric, {worker.labels: worker.stats[field] for worker in counted})
        fill = {
            worker.labels: worker.stats.get("request_steps", 0) / worker.stats["steps"]
            for worker in self.workers
            if worker.stats.get("steps")
        }
        yield _family(BATCH_FILL, fill)
        yield _family(SLOTS, {worker.labels: worker.slots for worker in self.workers})


def _by_one(values: Mapping[str, float]) -> Mapping[tuple[str, ...], float]:
    return {(label,): value for label, value in values.items()}


def _family(metric: Counter | Gauge, values: Mapping[Any, float]) -> metrics_core.Metric:
    """``values`` are by those of the labels, in a tuple."""
    kind = CounterMetricFamily if isinstance(metric, Counter) else GaugeMetricFamily
    family = kind(metric.name, metric.text, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
