from __future__ import annotations

from pipelines.bench.plan import ArchitectureName, Budget, Plan


def test_quick_keeps_what_is_measured() -> None:
    plan = Plan(architecture=ArchitectureName.SMALL, seed=5, loads=(0.6, 0.9), minutes=30)
    quick = plan.quick()
    assert quick.architecture is ArchitectureName.SMALL
    assert quick.seed == 5
    assert quick.loads == (0.6,)
    assert quick.minutes == 5
    assert quick.requests < plan.requests


def test_budget() -> None:
    now = [100.0]
    budget = Budget(60, clock=lambda: now[0])
    assert budget.left == 60
    assert budget.share(0.25) == 15
    now[0] += 50
    assert budget.share(0.25) == 10
    now[0] += 50
    assert budget.left == 0
