"""The dashboards, as `k8s/monitoring/dashboards.yaml` has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

FOLDER = Path(__file__).parents[2] / "k8s/monitoring"
RULES = FOLDER / "rules.yaml"


@dataclass(frozen=True)
class Panel:
    """One chart."""

    title: str
    queries: Mapping[str, str]
    """PromQL by legend, in which ``{{label}}`` stands for a label's value."""
    unit: str = "short"
    """A unit of Grafana's."""
    about: str = ""


@dataclass(frozen=True)
class Dashboard:
    name: str
    title: str
    panels: list[Panel] = field(default_factory=list)


def dashboards() -> list[Dashboard]:
    source = yaml.safe_load((FOLDER / "dashboards.yaml").read_text())
    return [
        Dashboard(name, each["title"], [Panel(**panel) for panel in each["panels"]])
        for name, each in source.items()
    ]
