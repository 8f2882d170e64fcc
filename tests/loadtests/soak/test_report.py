"""Verdicts on series that are known to grow, to end and to begin late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson

from loadtests.soak.clients import Kind, Tally
from loadtests.soak.family import OTHERS, role_of
from loadtests.soak.report import Report, Verdict, judge, save
from loadtests.soak.sampler import Samples, Series, Usage

WARM_UP_S = 300
SECONDS = range(0, 1200, 10)


def series(
    name: str,
    memory: Callable[[int], float] = lambda at: 100e6,
    handles: Callable[[int], float] = lambda at: 50,
    seconds: range = SECONDS,
) -> Series:
    made = Series(name)
    for at in seconds:
        made.add(at, Usage(int(memory(at)), int(handles(at)), sockets=5, threads=9))
    return made


def judged(*all_series: Series, connections: Callable[[int], int] = lambda at: 12) -> Report:
    samples = Samples(list(all_series), [(at, connections(at)) for at in SECONDS], SECONDS[-1])
    return judge(samples, Tally(), WARM_UP_S)


def test_each_process_has_its_verdict() -> None:
    report = judged(
        series("flat"),
        series("memory", memory=lambda at: 100e6 + 20e6 * at / 3600),
        series("handles", handles=lambda at: 50 + 60 * at / 3600),
        series("ended", seconds=range(0, 900, 10)),
        series("late", seconds=range(1170, 1200, 10)),
        series(OTHERS, seconds=range(0, 900, 10)),
    )
    assert {row.name: row.verdict for row in report.rows} == {
        "flat": Verdict.FLAT,
        "memory": Verdict.GROWS,
        "handles": Verdict.GROWS,
        "ended": Verdict.ENDED,
        "late": Verdict.SHORT,
        OTHERS: Verdict.FLAT,
    }
    assert report.complaints == ["memory: grows", "handles: grows", "ended: ended"]


def test_what_grows_during_the_warm_up_alone_is_flat() -> None:
    grown = series("engine", memory=lambda at: 1e6 * min(at, WARM_UP_S))
    assert judged(grown).complaints == []


def test_what_ended_during_the_warm_up_has_no_row() -> None:
    assert judged(series("starter", seconds=range(0, 200, 10))).rows == []


def test_connections_that_grow_fail_the_run() -> None:
    report = judged(series("flat"), connections=lambda at: 12 + at // 60)
    assert report.complaints == ["Postgres connections: grows"]


def test_a_job_without_an_end_fails_the_run() -> None:
    tally = Tally(states={"a": "succeeded", "b": "running", "c": "cancelled"})
    report = judge(Samples([series("flat")], [], SECONDS[-1]), tally, WARM_UP_S)
    assert report.complaints == ["1 accepted jobs have not ended"]


def test_a_client_that_was_told_nothing_fails_the_run() -> None:
    tally = Tally(faults=Counter({"synchronous: ReadTimeout": 2}))
    report = judge(Samples([series("flat")], [], SECONDS[-1]), tally, WARM_UP_S)
    assert report.complaints == ["2 × synchronous: ReadTimeout"]


def test_a_report_is_kept_whole(tmp_path: Path) -> None:
    samples = Samples([series("flat")], [(at, 12) for at in SECONDS], SECONDS[-1])
    tally = Tally(asked=Counter({Kind.SSE: 2}), states={"a": "succeeded", "b": "cancelled"})
    save(judge(samples, tally, WARM_UP_S), samples, {"minutes": 20, "out": tmp_path}, tmp_path)
    kept = orjson.loads((tmp_path / "report.json").read_bytes())
    assert kept["by_state"] == {"succeeded": 1, "cancelled": 1}
    assert kept["tally"]["asked"] == {Kind.SSE.value: 2}
    assert kept["rows"][0]["verdict"] == "flat"
    assert kept["connections"]["slope"] == {"per_hour": 0.0, "error": 0.0}
    every = orjson.loads((tmp_path / "samples.json").read_bytes())
    assert len(every["series"][0]["usage"]) == len(SECONDS)
    assert "| flat | 100.0 | 100.0 | +0.0 ± 0.0 |" in (tmp_path / "report.md").read_text()


def test_processes_are_told_apart() -> None:
    roles = {
        "ray::ServeReplica:sfumato:Diffusion.run": "diffusion",
        "ray::ServeReplica:sfumato:Postprocess": "post-process",
        "ray::ProxyActor": "proxy",
        "ray::DashboardAgent": "ray agent",
        "ray::IDLE": OTHERS,
        "postgres: sfumato sfumato [local] idle": "postgres",
        "/opt/bin/postgres": "postgres",
        "/opt/bin/valkey-server": "valkey",
        "/opt/ray/raylet/raylet": "ray raylet",
    }
    assert {title: role_of([title]) for title in roles} == roles
    monitor = ["python3", "-u", "/opt/ray/autoscaler/_private/monitor.py", "--logs-dir=x"]
    assert role_of(monitor) == "ray monitor"
