"""Each expression names metrics that there are, and only labels that they have."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from loadtests.monitoring.dashboards import dashboards
from tests.loadtests.monitoring.expressions import known, labels_of, rules


def expressions() -> Iterator[tuple[str, str, set[str]]]:
    """Each with where it is, and the labels that its legend or its annotation names."""
    for board in dashboards():
        for panel in board.panels:
            for legend, expression in panel.queries.items():
                used = set(re.findall(r"{{(\w+)}}", legend))
                yield f"{board.name}: {panel.title}: {legend}", expression, used
    for rule in rules("alert"):
        used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        yield rule["alert"], rule["expr"], used


@pytest.mark.parametrize(
    ("expression", "used"), [pytest.param(*rest, id=name) for name, *rest in expressions()]
)
def test_what_an_expression_names_is_there(expression: str, used: set[str]) -> None:
    assert used <= labels_of(expression, known())


@pytest.mark.parametrize(
    "wrong",
    [
        "ray_sfumato_nothing_total",
        'ray_sfumato_http_requests_total{state="x"}',
        "sum by (pool) (sfumato_workers) / sum by (model) (sfumato_worker_slots)",
        "sum by (tenant) (sfumato_jobs)",
        "histogram_quantile(0.5, sum(rate(ray_sfumato_step_seconds_bucket[5m])))",
        "sfumato_workers unless on (model) sfumato_workers",
    ],
)
def test_a_wrong_name_is_found(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"There is no|matches nothing"):
        labels_of(wrong, known())
