"""Checks a run offline: history and snapshot in, broken promises out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from loadtests.chaos.evidence import Evidence, Violation
from loadtests.chaos.history import Record
from loadtests.chaos.rules import events, failures, jobs, pictures
from loadtests.chaos.snapshot import Snapshot

RULES: tuple[Callable[[Evidence], Iterator[Violation]], ...] = (
    jobs.accepted_jobs_end,
    jobs.jobs_and_pictures_agree,
    jobs.jobs_were_asked_for,
    jobs.terminal_states_stay,
    jobs.one_key_is_one_job,
    jobs.refusals_are_due,
    jobs.cancelled_jobs_stay_empty,
    events.events_are_numbered,
    events.pictures_are_told_once,
    events.connections_are_in_order,
    events.followers_see_each_event_once,
    pictures.pictures_are_one_each,
    pictures.files_are_whole,
    pictures.clients_got_those_files,
    pictures.the_last_attempt_commits,
    pictures.attempts_increase,
    pictures.a_lease_is_lost_once,
    failures.failures_are_explained,
    failures.ends_were_asked_for,
    failures.refused_generations_did_end,
)


def check(history: Iterable[Record], snapshot: Snapshot) -> list[Violation]:
    """Every violation of every rule; none is what a run should have."""
    evidence = Evidence(history, snapshot)
    return [violation for rule in RULES for violation in rule(evidence)]
