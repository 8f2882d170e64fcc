"""Metrics in Prometheus' text form."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from serve.observability.metrics import Metrics, ServiceSample, WorkerSample


def rendered(metrics: Metrics, *workers: WorkerSample) -> dict[str, list[float]]:
    known = ServiceSample(
        jobs={"queued": 2},
        workers=workers,
        deliveries={"dead": 1},
        backlog_seconds={"small": 1.5, "large": 60.0},
        wait_seconds={"small": 0.5, "large": 20.0},
    )
    text = metrics.render(known).decode()
    values: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values.setdefault(sample.name, []).append(sample.value)
    return values


def test_fill_is_request_steps_by_steps() -> None:
    busy = WorkerSample("a", "p", "m", "cpu", 8, {"steps": 4, "request_steps": 10})
    fresh = WorkerSample("b", "p", "m", "cpu", 8, {"steps": 0, "request_steps": 0})
    silent = WorkerSample("c", "p", "m", "cpu", 8, {})

    told = rendered(Metrics(), busy, fresh, silent)

    assert told["sfumato_batch_fill"] == [2.5]
    assert told["sfumato_engine_steps_total"] == [4, 0]
    assert told["sfumato_workers"] == [3]
    assert told["sfumato_webhook_deliveries"] == [1]
    assert told["sfumato_worker_slots"] == [8, 8, 8]


def test_two_registries_do_not_meet() -> None:
    first, second = Metrics(), Metrics()
    first.observe_request("GET", "/health", 200, 0.01)

    assert rendered(first)["sfumato_http_requests_total"] == [1]
    assert "sfumato_http_requests_total" not in rendered(second)
