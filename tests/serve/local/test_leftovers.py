"""Processes that a killed owner left behind, and the note that names them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import psutil
import pytest

from serve.local.process import Leftovers


@pytest.fixture
def note(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "processes.json"


def test_what_was_noted_is_ended(note: Path) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        Leftovers(note.parents[1]).note()
        (noted,) = [each for each in json.loads(note.read_text()) if each[0] == child.pid]
        note.write_text(json.dumps([noted]))  # other tests' servers are among the rest
        assert Leftovers(note.parents[1]).end() == 1
    assert not psutil.pid_exists(child.pid)
    assert not note.exists()


def test_a_pid_that_came_round_again_is_left_alone(note: Path) -> None:
    child = subprocess.Popen(["/bin/sleep", "60"])
    created = psutil.Process(child.pid).create_time()
    note.write_text(json.dumps([[child.pid, created - 5]]))
    assert Leftovers(note.parents[1]).end() == 0
    assert child.poll() is None
    child.kill()
    child.wait()


@pytest.mark.parametrize("torn", ["", "[[12, 3", "{}", "[[12]]", "7", "null", '[["a", "b"]]', "\0"])
def test_a_torn_note_is_forgotten(note: Path, torn: str) -> None:
    note.write_text(torn)
    assert Leftovers(note.parents[1]).end() == 0
    assert not note.exists()


def test_a_note_replaces_the_one_before_whole(note: Path) -> None:
    note.write_text("[[1, 2.5]]" * 1000)
    Leftovers(note.parents[1]).note()
    json.loads(note.read_text())
    assert [file.name for file in note.parent.iterdir()] == [note.name]
