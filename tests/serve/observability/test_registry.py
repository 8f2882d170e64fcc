"""A process's own registry, as a scrape reads it."""

from __future__ import annotations

import threading

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from serve.observability import metrics
from serve.observability.meter import (
    UNMETERED,
    Counter,
    FirstValues,
    Gauge,
    Histogram,
    Meter,
    Meters,
)
from serve.observability.metrics import METRICS
from serve.observability.registry import Registry

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def scraped(registry: Registry) -> dict[str, list[Sample]]:
    text, media_type = registry.render("text/plain")
    assert media_type.startswith("text/plain; version=0.0.4")
    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def openmetrics_families(text: bytes) -> list[Metric]:
    return list(openmetrics.text_string_to_metric_families(text.decode()))  # type: ignore[no-untyped-call]


def test_what_is_recorded_is_scraped() -> None:
    registry = Registry()
    meter: Meter = Meters(registry)
    meter.count(metrics.DAMAGED_FILES, fault="missing")
    meter.count(metrics.DAMAGED_FILES, 2, fault="missing")
    meter.set(metrics.EVENT_SOCKETS, 3)
    meter.set(metrics.EVENT_SOCKETS, 2)
    meter.observe(metrics.STEP_BATCH_SIZE, 4, model="m")

    told = scraped(registry)

    assert [each.value for each in told["sfumato_damaged_files_total"]] == [3]
    assert [each.value for each in told["sfumato_event_sockets"]] == [2]
    below = {s.labels["le"]: s.value for s in told["sfumato_step_batch_size_bucket"]}
    assert (below["3.0"], below["4.0"], below["+Inf"]) == (0, 1, 1)
    processes = {sample.labels["process"] for samples in told.values() for sample in samples}
    assert len(processes) == 1


def test_every_metric_can_be_recorded_and_read_by_openmetrics_own_parser() -> None:
    registry = Registry()
    for metric in METRICS:
        labels = dict.fromkeys(metric.labels, 'a "quoted" \\ value\n')
        match metric:
            case Counter():
                registry.count(metric, **labels)
            case Gauge():
                registry.set(metric, 1, **labels)
            case Histogram():
                registry.observe(metric, 1, **labels)

    text, media_type = registry.render(OPENMETRICS)

    assert media_type.startswith("application/openmetrics-text")
    families = openmetrics_families(text)
    names = {metric.name.removesuffix("_total") for metric in METRICS}
    assert {family.name for family in families} == names
    assert all(family.samples for family in families)


def test_two_registries_do_not_meet() -> None:
    first, second = Registry(), Registry()
    first.count(metrics.LEASES_LOST)
    meter = Meters(first, second)
    meter.count(metrics.LEASES_LOST)
    UNMETERED.count(metrics.LEASES_LOST)

    both = [scraped(each)["sfumato_leases_lost_total"][0] for each in (first, second)]
    assert [each.value for each in both] == [2, 1]
    assert both[0].labels["process"] != both[1].labels["process"]


def test_a_label_that_is_missing_or_unknown_is_a_mistake() -> None:
    registry = Registry()
    with pytest.raises(ValueError, match=r"[Ll]abel"):
        registry.count(metrics.DAMAGED_FILES)
    with pytest.raises(ValueError, match=r"[Ll]abel"):
        registry.count(metrics.DAMAGED_FILES, fault="size", tenant="t")


def test_threads_lose_no_count() -> None:
    registry = Registry()

    def count() -> None:
        for _ in range(2000):
            registry.count(metrics.EVENTS_SENT, type="job.queued")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scraped(registry)["sfumato_events_sent_total"][0].value == 8000


def test_an_exemplar_is_in_openmetrics_alone() -> None:
    trace = {"trace_id": "0af7651916cd43dd8448eb211c80319c"}
    registry = Registry(lambda: trace)
    registry.observe(metrics.DATABASE_WAIT, 0.02)

    families = openmetrics_families(registry.render(OPENMETRICS)[0])

    shown = [sample.exemplar for family in families for sample in family.samples if sample.exemplar]
    assert [(each.labels, each.value) for each in shown] == [(trace, 0.02)]
    assert b"trace_id" not in registry.render("*/*")[0]


def test_only_the_first_values_of_a_label_keep_their_names() -> None:
    sizes = FirstValues(2)
    assert [sizes.label(each) for each in "abacb"] == ["a", "b", "a", "other", "b"]
