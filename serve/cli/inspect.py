"""`sfumato inspect`: how a picture was made, by its file alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from pipelines.imaging.errors import InvalidUpload
from pipelines.imaging.metadata.origin import Origin
from pipelines.imaging.metadata.read import read_origin
from serve.errors import ServiceError


class Unreadable(ServiceError):
    """The file tells nothing; the message says why."""


def run(file: Path, as_json: bool) -> int:
    """Print what the file says; the exit status. Raises Unreadable."""
    origin = origin_of(file)
    if as_json:
        typer.echo(json.dumps(asdict(origin), ensure_ascii=False, indent=2))
        return 0
    made = {"software": origin.software, "created_at": origin.created_at or "unknown"}
    told = {**made, **origin.parameters, **origin.other}
    width = max(map(len, told))
    for name, value in told.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        typer.echo(f"{name:<{width}}  {text.replace(chr(10), chr(10) + ' ' * (width + 2))}")
    return 0


def origin_of(file: Path) -> Origin:
    """What the file says of how its picture was made.

    Raises:
        Unreadable: it cannot be read, is no picture, or says nothing.
    """
    try:
        origin = read_origin(file.read_bytes())
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror}.") from error
    except InvalidUpload as error:
        raise Unreadable(f"{file}: {error}") from error
    if origin is None:
        raise Unreadable(
            f"{file} does not say how it was made: it has no metadata of Sfumato, AUTOMATIC1111 or"
            " ComfyUI. Programs that edit or send pictures often remove it."
        )
    return origin
