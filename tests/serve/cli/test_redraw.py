"""What `sfumato inspect` and `sfumato redraw` make of a file. With a service: tests/service."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.imaging.encode import encode
from pipelines.imaging.metadata.origin import Origin
from serve.cli.inspect import Unreadable
from serve.cli.main import app
from serve.cli.redraw import difference, request_of
from tests.pipelines.imaging.metadata.files import METADATA, PARAMETERS
from tests.pipelines.imaging.pictures import scene

FILE = Path("fox.png")


def test_a_file_is_told_in_lines_and_as_json(tmp_path: Path) -> None:
    file = tmp_path / "fox.png"
    file.write_bytes(encode(scene(32, 32), metadata=METADATA))
    lines = CliRunner().invoke(app, ["inspect", str(file)])
    assert lines.exit_code == 0, lines.output
    assert "num_inference_steps  20\n" in lines.stdout
    assert '\nloras                [{"name": "ink", "scale": 0.5}]\n' in lines.stdout
    told = json.loads(CliRunner().invoke(app, ["inspect", str(file), "--json"]).stdout)
    assert told == {
        "software": "Sfumato",
        "parameters": PARAMETERS,
        "other": {},
        "created_at": METADATA["created_at"],
    }


@pytest.mark.parametrize("command", ["inspect", "redraw"])
@pytest.mark.parametrize(
    ("content", "words"),
    [(b"text", "not a PNG, JPEG, WebP or AVIF"), (encode(scene(8, 8)), "does not say how it was")],
)
def test_a_file_that_tells_nothing_is_refused(
    tmp_path: Path, command: str, content: bytes, words: str
) -> None:
    file = tmp_path / "file.png"
    file.write_bytes(content)
    refused = CliRunner().invoke(app, [command, str(file)])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert words in " ".join(refused.stderr.split())


def test_a_generation_is_asked_for() -> None:
    assert request_of(Origin("Sfumato", PARAMETERS), {}, FILE) == {
        "model": "embedded",
        "prompt": METADATA["prompt"],
        "negative_prompt": "text, frame",
        "num_inference_steps": 20,
        "guidance_scale": 7.5,
        "scheduler": "dpmpp_2m_karras",
        "seed": 2**63 - 1,
        "loras": [{"name": "ink", "scale": 0.5}],
        "size": "32x32",
    }


@pytest.mark.parametrize(
    ("parameters", "other", "words"),
    [
        ({"seed": 7}, {}, "give it with --prompt"),
        ({"prompt": "a fox", "strength": 0.5}, {}, "drawn from another picture"),
        ({"prompt": "a fox", "control": {"name": "edges"}}, {}, "drawn from another picture"),
        ({"prompt": "a fox"}, {"image": "ab" * 32}, "drawn from another picture"),
    ],
)
def test_what_is_missing_is_named(
    parameters: dict[str, object], other: dict[str, str], words: str
) -> None:
    with pytest.raises(Unreadable, match=words):
        request_of(Origin("Sfumato", parameters, other), {}, FILE)


def test_what_is_given_counts_more() -> None:
    asked = request_of(Origin("Sfumato", {"seed": 7}), {"prompt": "a fox"}, FILE)
    assert asked == {"seed": 7, "prompt": "a fox"}


def test_differences() -> None:
    picture = scene(10, 10)
    assert difference(picture, picture.copy()) == "The pictures are identical."
    other = picture.astype(np.int16)
    other[0, :5, 1] += np.where(other[0, :5, 1] > 100, -60, 60)
    changed = other.astype(np.uint8)
    assert difference(picture, changed) == (
        "5.0% of the pixels differ, by 60 of 255 at most and 1.00 on average."
    )
    assert difference(picture, scene(10, 12)) == "The sizes differ: 10x10 and 10x12 pixels."
