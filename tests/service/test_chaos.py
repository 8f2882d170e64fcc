"""The short form of `make chaos`: ten kills under a hundred jobs lose nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from loadtests.chaos.faults.processes import DOORS

REPOSITORY = Path(__file__).parents[2]
SEED, JOBS, KILLS, MINUTES = 3, 100, 10, 1.5  # by this seed with a failover


def test_ten_kills_under_a_hundred_jobs_lose_nothing(tmp_path: Path) -> None:
    run = subprocess.run(
        [
            *(sys.executable, "-m", "loadtests.chaos", "--seed", str(SEED)),
            *("--jobs", str(JOBS), "--kills", str(KILLS), "--minutes", str(MINUTES)),
            *("--out", str(tmp_path)),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["violations"] == []
    measures = report["measures"]
    assert measures["jobs"] >= JOBS
    assert measures["states"]["succeeded"] >= JOBS / 2, "faults must not be all that happened"
    assert sum(measures["kills"].values()) >= KILLS
    doors = {role.name.lower() for role in DOORS}
    assert set(measures["kills"]) - doors == {"diffusion", "postprocess", "ingress", "controller"}
    assert set(measures["kills"]) & doors
    assert measures["commits_dropped"] >= 1
    assert measures["unanswered"] == 0
