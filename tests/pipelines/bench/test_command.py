"""The command from flags to JSON, over a tiny model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from serve.cli.main import app

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """What the command sets for its whole process is put back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_quick(model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    flags = [
        "--model",
        str(model_folder),
        "--quick",
        "--threads",
        "1",
        "--clock",
        "cpu",
        "--json",
        str(path),
    ]
    result = CliRunner().invoke(app, ["bench", "engine", *flags], catch_exceptions=False)
    assert result.exit_code == 0
    assert "Batch curve" in result.stdout
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["bench"] == "engine"
    assert report["format"] == 1
    assert set(report["machine"]) >= {"date", "device", "cpu", "threads", "torch", "diffusers"}
    assert report["model"]["dtype"] == "float32"
    assert report["model"]["acceleration"]["compile"] == "never"
    assert report["plan"]["model"] == str(model_folder)
    assert [point["pictures"] for point in report["curve"]["points"]] == [1, 8]
    assert set(report["step"]) >= {"denoiser_s", "scheduler_s", "assembly_s", "engine_s"}
    assert set(report["clients"]) >= {"step_batching", "loop", "ratio", "raw_gain"}
    (point,) = report["traffic"]["points"]
    assert [arm["arm"] for arm in point["arms"]] == ["step-batching", "static-8", "loop"]
    for arm in point["arms"]:
        assert len(arm["passes"]) == 2
        assert arm["overall"]["finished"] + arm["overall"]["unfinished"] == 2 * point["requests"]
    assert [each["arm"] for each in point["step_batching_against"]] == ["static-8", "loop"]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--arms", "fifo"], "fifo"),
        (["--speed-up", "turbo=on"], "turbo"),
        (["--speed-up", "compile=perhaps"], "perhaps"),
        (["--loads", "much"], "much"),
        (["--model", "a", "--architecture", "sd15"], "not both"),
    ],
)
def test_wrong_flags(flags: list[str], complaint: str) -> None:
    result = CliRunner().invoke(app, ["bench", "engine", *flags])
    assert result.exit_code == 2
    assert complaint in result.output


def test_the_processors_clock_wants_one_thread(model_folder: Path) -> None:
    flags = ["--model", str(model_folder), "--clock", "cpu", "--threads", "2"]
    result = CliRunner().invoke(app, ["bench", "engine", *flags])
    assert result.exit_code == 1
    assert "--threads 1" in result.output


def test_no_such_model() -> None:
    result = CliRunner().invoke(app, ["bench", "engine", "--model", "/nowhere"])
    assert result.exit_code == 1
    assert "There is no model folder '/nowhere'" in result.output
