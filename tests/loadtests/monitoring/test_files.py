"""What is written from a source is what the source says, and the rules do what they say."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from loadtests.monitoring.dashboards import FOLDER, RULES, dashboards
from loadtests.monitoring.files import files
from loadtests.monitoring.prometheus import program

KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
TESTS = yaml.safe_load((FOLDER / "rules.test.yaml").read_text())["tests"]


def alerts() -> set[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}


def test_the_files_are_current() -> None:
    stale = [path.name for path, text in files().items() if path.read_text() != text]
    assert stale == [], "run `python -m loadtests.monitoring files`"


def test_every_dashboard_is_deployed() -> None:
    (generator,) = KUSTOMIZATION["configMapGenerator"]
    written = {f"dashboards/{board.name}.json" for board in dashboards()}
    assert set(generator["files"]) == written
    assert {f"dashboards/{path.name}" for path in FOLDER.glob("dashboards/*")} == written


@pytest.mark.skipif(program("promtool") is None, reason="no promtool: `make prometheus`")
def test_the_rules_do_what_they_say() -> None:
    command = [str(program("promtool")), "test", "rules", "rules.test.yaml"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_to_fire_and_not_to() -> None:
    cases = [case for test in TESTS for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alerts()
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == alerts()


def test_every_alert_has_a_section_of_the_drill() -> None:
    drill = (FOLDER.parents[1] / "docs/operations.md").read_text()
    assert {line[4:] for line in drill.splitlines() if line.startswith("### Sfumato")} == alerts()
