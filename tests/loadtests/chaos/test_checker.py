"""The checker finds each broken promise; one that cannot fail would be worth nothing."""

from __future__ import annotations

import pytest

from loadtests.chaos.checker import RULES
from loadtests.chaos.evidence import Evidence
from loadtests.chaos.history import Operation, Phase
from tests.loadtests.chaos import damaged_events, damaged_jobs, damaged_pictures
from tests.loadtests.chaos.clean_run import clean_run
from tests.loadtests.chaos.damage import DAMAGES, Break

ROOMS = (damaged_events, damaged_jobs, damaged_pictures)  # imported, they fill the register


def test_a_clean_run_has_no_violation() -> None:
    assert clean_run().violations() == []


@pytest.mark.parametrize(
    ("invariant", "says", "break_it"), DAMAGES, ids=[one[2].__name__ for one in DAMAGES]
)
def test_each_violation_is_found(invariant: str, says: str, break_it: Break) -> None:
    run = clean_run()
    break_it(run)
    found = [v for v in run.violations() if v.invariant == invariant and says in v.detail]
    assert found, run.violations()


def test_a_conflicting_body_may_be_refused() -> None:
    run = clean_run()
    told = {"key": "key-good", "body": {"prompt": "else"}}
    run.tell("good", Phase.FAIL, Operation.SUBMIT, **told, status=422, code="idempotency_conflict")
    assert run.violations() == []


def test_a_deleted_picture_may_have_no_files() -> None:
    run = clean_run()
    for name in ("good-0", "sync-0"):
        run.amend_row(run.snapshot.images, name, deleted=True)
        run.snapshot.variants[:] = [v for v in run.snapshot.variants if v.image_id != name]
    assert run.violations() == []


def test_every_rule_is_broken_by_some_damage() -> None:
    """So no rule stands there that nothing can break."""
    silent = set(RULES)
    for _, _, break_it in DAMAGES:
        run = clean_run()
        break_it(run)
        evidence = Evidence(run.history, run.snapshot)
        silent -= {rule for rule in silent if list(rule(evidence))}
    assert not silent
