"""`python -m loadtests.peers` with an arm that needs nothing but diffusers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtests.peers.arms import Arm
from loadtests.peers.plan import Plan, Trace
from loadtests.peers.results import Results, Subject

ROOT = Path(__file__).parents[3]


def peers(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtests.peers", "--quick", f"--out={out}", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.model
def test_a_run_in_parts_makes_one_report(tmp_path: Path) -> None:
    first = peers(tmp_path, "--arms=grouped", "--loads=")
    assert first.returncode == 0, first.stderr
    second = peers(tmp_path, "--arms=grouped", "--loads=0.5")
    assert second.returncode == 0, second.stderr
    results = Results(tmp_path / "quick.jsonl")
    subject = Subject(Trace.MIXED, Plan().size)
    (capacity,) = results.capacities(subject)
    (only,) = results.passes
    assert only.configuration == capacity.configuration
    assert only.configuration.arm is Arm.GROUPED
    assert only.rate == pytest.approx(0.5 * capacity.pictures_per_s)
    assert all(sample.drawn for sample in only.samples)
    report = (tmp_path / "report.md").read_text()
    assert report == second.stdout[second.stdout.index(report[:40]) :][: len(report)]
    assert "| grouped | equal requests | 1 | " in report
    plot = ElementTree.parse(tmp_path / "report.svg").getroot()  # noqa: S314 - our own
    assert plot.tag.endswith("svg")


def test_an_arm_that_fails_is_told_and_nothing_was_measured(tmp_path: Path) -> None:
    run = peers(tmp_path, "--report")
    assert run.returncode == 1
    assert "Nothing was measured." in run.stderr
    run = peers(tmp_path, "--arms=nobody")
    assert run.returncode == 2
    assert "nobody" in run.stderr
