"""The files of `k8s/monitoring` that are written from its sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from loadtests.monitoring.dashboards import FOLDER, RULES, Dashboard, Panel, dashboards

Json = dict[str, Any]

_SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS, _WIDTH, _HEIGHT = 3, 8, 8  # Grafana's grid has 24 columns
_NOTE = "# Written from rules.yaml by `python -m loadtests.monitoring files`.\n"


def files() -> dict[Path, str]:
    """What each is to hold."""
    boards = {
        FOLDER / f"dashboards/{board.name}.json": json.dumps(grafana(board), indent=1) + "\n"
        for board in dashboards()
    }
    rule = yaml.safe_dump(prometheus_rule(), sort_keys=False, width=1000)
    return {**boards, FOLDER / "prometheusrule.yaml": _NOTE + rule}


def prometheus_rule() -> Json:
    """The rule file as the Prometheus operator's object."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "sfumato",
            "namespace": "sfumato",
            "labels": {"app.kubernetes.io/part-of": "sfumato"},
        },
        "spec": yaml.safe_load(RULES.read_text()),
    }


def grafana(board: Dashboard) -> Json:
    """The dashboard as Grafana imports it; it asks for the Prometheus that it is to show."""
    return {
        "uid": f"sfumato-{board.name}",
        "title": f"Sfumato: {board.title}",
        "tags": ["sfumato"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "title": "Sfumato", "tags": ["sfumato"]}],
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
        },
        "annotations": {
            "list": [
                {
                    "name": "Alerts",
                    "enable": True,
                    "iconColor": "red",
                    "datasource": _SOURCE,
                    "expr": 'ALERTS{alertname=~"Sfumato.*",alertstate="firing"}',
                    "titleFormat": "{{alertname}}",
                }
            ]
        },
        "panels": [_panel(panel, number) for number, panel in enumerate(board.panels)],
    }


def _panel(panel: Panel, number: int) -> Json:
    row, column = divmod(number, _COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": {"h": _HEIGHT, "w": _WIDTH, "x": column * _WIDTH, "y": row * _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend}
            for index, (legend, expression) in enumerate(panel.queries.items())
        ],
    }
