"""`sfumato redraw`: a picture once more, from what its file says, and how much the two differ."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from pipelines.imaging.convert import pixels_of
from pipelines.imaging.metadata.origin import Origin
from serve.cli.client import call
from serve.cli.inspect import Unreadable, origin_of
from serve.settings import Settings

_ASKED = (
    *("model", "prompt", "negative_prompt", "num_inference_steps", "guidance_scale"),
    *("scheduler", "seed", "loras", "clip_skip", "hires"),
)
_NEED_A_PICTURE = {"image", "mask", "control_image", "strength", "control"}


def run(settings: Settings, file: Path, output: Path | None, given: Mapping[str, str]) -> int:
    """Draw the picture again; the exit status. ``given`` is used instead of what the file says.

    Raises:
        Unreadable: the file does not say enough.
        CallFailed: the service refuses.
    """
    asked = request_of(origin_of(file), given, file)
    answer = call(
        settings,
        "POST",
        "/v1/images/generations",
        {**asked, "output_format": "png"},
        settings.jobs.wait_timeout_s + 10,
    )
    png = base64.b64decode(answer["data"][0]["b64_json"])
    if output is not None:
        output.write_bytes(png)
    typer.echo(difference(pixels_of(file.read_bytes()), pixels_of(png)))
    return 0


def request_of(origin: Origin, given: Mapping[str, str], file: Path) -> dict[str, Any]:
    """The body of a generation as the file says, unless it is ``given``.

    Raises:
        Unreadable: a picture, or a prompt, is missing.
    """
    parameters = {**origin.parameters, **given}
    if _NEED_A_PICTURE & (parameters.keys() | origin.other.keys()):
        raise Unreadable(
            f"{file} was drawn from another picture, which it does not hold: send that to"
            " /v1/images/edits with the parameters that `sfumato inspect` prints."
        )
    if "prompt" not in parameters:
        raise Unreadable(f"{file} does not tell its prompt: give it with --prompt.")
    asked = {name: parameters[name] for name in _ASKED if name in parameters}
    if "width" in parameters and "height" in parameters:
        asked["size"] = f"{parameters['width']}x{parameters['height']}"
    return asked


def difference(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> str:
    """A sentence about two pictures, (height, width, 3)."""
    if before.shape != after.shape:
        sizes = (f"{each.shape[1]}x{each.shape[0]}" for each in (before, after))
        return "The sizes differ: {} and {} pixels.".format(*sizes)
    error = np.abs(before.astype(np.int16) - after)
    if not error.any():
        return "The pictures are identical."
    share = (error.max(axis=2) > 0).mean()
    return (
        f"{share:.1%} of the pixels differ, by {error.max()} of 255 at most and {error.mean():.2f}"
        " on average."
    )
