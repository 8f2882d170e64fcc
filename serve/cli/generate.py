"""`sfumato generate`: one picture from the running service."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any, get_args

import httpx2
import typer

from pipelines.imaging.format import PictureFormat
from serve.cli.target import api_key, base_url, key_file
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
    """Send the request, wait, write the file; the exit status."""
    picture_format = FORMATS.get(output.suffix.lower())
    if picture_format is None:
        typer.echo(f"{output}: name a file that ends in {', '.join(FORMATS)}.", err=True)
        return 2
    if not prompt.strip():
        typer.echo("The prompt is empty: say what the picture shows.", err=True)
        return 2
    key = api_key(settings)
    if key is None:
        typer.echo(
            f"There is no key: set SFUMATO_API_KEY, or start `sfumato up`, which makes one in"
            f" {key_file(settings)}.",
            err=True,
        )
        return 1
    try:
        answer = httpx2.post(
            f"{base_url(settings)}/v1/images/generations",
            json={"prompt": prompt, "output_format": picture_format, **options},
            headers={"Authorization": f"Bearer {key}"},
            timeout=settings.jobs.wait_timeout_s + 10,
            trust_env=False,  # the service is on this machine: a proxy would not find it
        )
    except httpx2.HTTPError as error:
        typer.echo(
            f"No service answers at {base_url(settings)} ({error}); start one with `sfumato up`.",
            err=True,
        )
        return 1
    if not answer.is_success:
        typer.echo(f"Refused ({answer.status_code}): {_reason(answer)}", err=True)
        return 1
    output.write_bytes(base64.b64decode(answer.json()["data"][0]["b64_json"]))
    typer.echo(str(output))
    return 0


def _reason(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text
