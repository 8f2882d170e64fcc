"""Broken promises about events: I7, I8."""

from __future__ import annotations

from dataclasses import replace

from loadtests.chaos.history import Operation, Phase
from loadtests.chaos.snapshot import EventRow
from tests.loadtests.chaos.clean_run import Run
from tests.loadtests.chaos.damage import damage


@damage("I7", "has the numbers [1, 2, 4, 5]; the last is 5")
def a_number_is_missing(run: Run) -> None:
    run.snapshot.events.remove(EventRow("good", 3, "image.succeeded", "good-0"))


@damage("I7", "and told []")
def a_terminal_event_is_missing(run: Run) -> None:
    run.snapshot.events.remove(EventRow("late", 3, "job.expired", None))


@damage("I7", "and told ['job.expired', 'job.expired']")
def a_terminal_event_is_told_twice(run: Run) -> None:
    run.snapshot.events.append(EventRow("late", 4, "job.expired", None))


@damage("I7", "image.succeeded came after job.cancelled")
def something_follows_the_end(run: Run) -> None:
    run.snapshot.events.append(EventRow("gone", 5, "image.succeeded", "gone-1"))


@damage("I7", "begins with ['job.running']")
def a_job_begins_without_being_queued(run: Run) -> None:
    run.snapshot.events.remove(EventRow("late", 1, "job.queued", None))


@damage("I8", "got number 4 where 3 was due")
def a_connection_skips_an_event(run: Run) -> None:
    del run.history[_event(run, 3)]


@damage("I8", "got number 3 where 4 was due")
def a_connection_repeats_an_event(run: Run) -> None:
    run.history.insert(_event(run, 3), run.history[_event(run, 3)])


@damage("I8", "saw [1, 2, 3, 4, 4, 5]")
def a_client_sees_an_event_on_two_connections(run: Run) -> None:
    told = {"connection": "three", "job_id": "good"}
    run.tell("good", Phase.INVOKE, Operation.WATCH, **told, after=3)
    run.tell("good", Phase.OK, Operation.EVENT, **told, seq=4, type="image.succeeded")


@damage("I8", "came as job.failed and is kept as job.succeeded")
def an_event_is_told_differently(run: Run) -> None:
    index = _event(run, 5)
    record = run.history[index]
    run.history[index] = replace(record, value={**record.value, "type": "job.failed"})


@damage("I8", "saw [1, 2, 3, 4] of 1..5")
def a_follower_never_sees_the_end(run: Run) -> None:
    del run.history[_event(run, 5)]


def _event(run: Run, seq: int) -> int:
    return next(
        index
        for index, record in enumerate(run.history)
        if record.operation is Operation.EVENT and record.value["seq"] == seq
    )
