"""The GPU kit on tiny models and the CPU, and what becomes of parts that come to nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.bench.gpu import command
from pipelines.bench.gpu.parts import ARCHITECTURES, Kind, parts
from pipelines.diffusion.speed.acceleration import Use


def measure(out: Path, only: str) -> str:
    flags = ["--device", "cpu", "--quick", "--out", str(out), "--only", only]
    told = subprocess.run(
        [sys.executable, "-m", "pipelines.bench", "gpu", *flags],
        check=True,
        capture_output=True,
        text=True,
    )
    return told.stdout


def test_a_run_that_is_gone_on_with(tmp_path: Path) -> None:
    """Parity and speed, each by a process of its own; what needs CUDA is told."""
    parity, speed = "parity-flux-dev-eager", "speed-sd15-channels-last"
    assert f"{parity}: measured" in measure(tmp_path, parity)
    found = json.loads((tmp_path / f"{parity}.json").read_text(encoding="utf-8"))
    assert found["found"]["neighbours"] == 7
    # Half precision shows, a neighbour adds nothing to it.
    assert 1e-4 < found["found"]["alone"] < 0.1
    assert found["found"]["batch"] < 1.5 * found["found"]["alone"]
    written = (tmp_path / f"{parity}.json").stat().st_mtime_ns

    told = measure(tmp_path, "speed-sd15-c*")
    assert f"{speed}: measured" in told
    assert json.loads((tmp_path / f"{speed}.json").read_text(encoding="utf-8"))["found"]["curve"]
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| channels-last |" in report
    assert "| speed-sd15-compile | needs a CUDA device |" in report
    measure(tmp_path, parity)
    assert (tmp_path / f"{parity}.json").stat().st_mtime_ns == written


def test_what_there_is_to_measure() -> None:
    """Each of the architectures in eager, alone and with all; no two parts of one name."""
    every = parts(quick=False)
    assert len({part.name for part in every}) == len(every)
    for kind in (Kind.PARITY, Kind.SPEED):
        eager = [each for each in every if each.kind is kind and each.label == "eager"]
        assert [part.architecture for part in eager] == list(ARCHITECTURES)
    plan = next(each for each in every if each.name == "speed-sdxl-compile").plan("cuda", False, 60)
    assert plan.acceleration.compile is Use.ALWAYS
    assert plan.acceleration.cuda_graphs is Use.NEVER
    assert plan.acceleration.batch_buckets == (2, 16)
    assert {part.name for part in parts(quick=True)} < {part.name for part in every}


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("input(); raise MemoryError('CUDA | out of memory')", "MemoryError: CUDA / out of memory"),
        ("import os; input(); os.abort()", "ended by SIGABRT"),
        ("import time; input(); time.sleep(60)", "took longer than 1 s"),
        ("raise SystemExit(3)", "said nothing"),
        ("input()", None),
    ],
)
def test_a_part_that_comes_to_nothing(
    program: str, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda _, **more: start([sys.executable, "-c", program], **more)
    )
    assert command._measure(command._start(), {"part": "any"}, limit=1) == reason
