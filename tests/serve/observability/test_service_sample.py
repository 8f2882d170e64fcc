"""What Postgres holds, in Prometheus' text form."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from serve.observability.registry import Registry
from serve.observability.service_sample import QueueSample, ServiceSample, WorkerSample


def test_fill_is_request_steps_by_steps() -> None:
    busy = WorkerSample("a", "p", "m", "cpu", 8, {"steps": 4, "request_steps": 10})
    fresh = WorkerSample("b", "p", "m", "cpu", 8, {"steps": 0, "request_steps": 0})
    silent = WorkerSample("c", "p", "m", "cpu", 8, {})
    sample = ServiceSample(
        jobs={("queued", "small", "m"): 2},
        queues=[QueueSample("small", "high", pictures=3, seconds=4.5, oldest_s=60.0)],
        workers=(busy, fresh, silent),
        deliveries={"dead": 1},
        backlog_seconds={"small": 1.5, "large": 60.0},
        wait_seconds={"small": 0.5, "large": 20.0},
    )

    text, _ = Registry().render("", sample)

    told: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for each in family.samples:
            told.setdefault(each.name, []).append(each.value)
    assert told["sfumato_batch_fill"] == [2.5]
    assert told["sfumato_engine_steps_total"] == [4, 0]
    assert told["sfumato_workers"] == [0, 0, 3], "of the two pools, and of one that is going"
    assert told["sfumato_queue_pictures"] == [3]
    assert told["sfumato_queue_oldest_seconds"] == [60]
    assert told["sfumato_queue_seconds"] == [4.5]
    assert told["sfumato_webhook_deliveries"] == [1]
    assert told["sfumato_worker_slots"] == [8, 8, 8]
