"""`sfumato generate`: one picture from the running service."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any, get_args

import typer

from pipelines.imaging.format import PictureFormat
from serve.cli.client import call
from serve.jobs.schemas import OutputFormat
from serve.settings import Settings

FORMATS = {
    f".{ending}": name
    for name in get_args(OutputFormat)
    for ending in (PictureFormat(name).extension, name)
}
"""The output format by the ending of the file's name."""
_SIZE = re.compile(r"auto|[1-9]\d{0,4}x[1-9]\d{0,4}")


def check_size(size: str | None) -> str | None:
    """A callback of typer's: refuses a text that is no size; the service knows its own sizes."""
    if size is not None and not _SIZE.fullmatch(size):
        raise typer.BadParameter(f"{size!r} is no size; give one like 512x512, or auto.")
    return size


def run(settings: Settings, prompt: str, output: Path, options: dict[str, Any]) -> int:
    """Send the request, wait, write the file; the exit status. Raises CallFailed."""
    picture_format = FORMATS.get(output.suffix.lower())
    if picture_format is None:
        typer.echo(f"{output}: name a file that ends in {', '.join(FORMATS)}.", err=True)
        return 2
    if not prompt.strip():
        typer.echo("The prompt is empty: say what the picture shows.", err=True)
        return 2
    answer = call(
        settings,
        "POST",
        "/v1/images/generations",
        {"prompt": prompt, "output_format": picture_format, **options},
        settings.jobs.wait_timeout_s + 10,
    )
    output.write_bytes(base64.b64decode(answer["data"][0]["b64_json"]))
    typer.echo(str(output))
    return 0
