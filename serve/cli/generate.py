"""`sfumato generate`: one picture from the running service."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx2
import typer

from serve.cli.target import api_key, base_url
from serve.settings import Settings

_FORMATS = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}


def run(settings: Settings, prompt: str, output: Path, options: dict[str, Any]) -> int:
    """Ask, wait, write the file; the exit status."""
    picture_format = _FORMATS.get(output.suffix.lower())
    if picture_format is None:
        typer.echo(f"{output}: name a file that ends in {', '.join(_FORMATS)}.", err=True)
        return 2
    body = {"prompt": prompt, "output_format": picture_format, **options}
    try:
        answer = httpx2.post(
            f"{base_url(settings)}/v1/images/generations",
            json=body,
            headers={"Authorization": f"Bearer {api_key(settings)}"},
            timeout=settings.jobs.wait_timeout_s + 10,
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
