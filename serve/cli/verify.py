"""`sfumato verify`: where a picture is from, by the credentials in its file."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from pipelines.imaging.errors import InvalidUpload
from serve.cli.inspect import Unreadable
from serve.pictures.credentials import open_verifier
from serve.pictures.schemas import CredentialsOut
from serve.settings import Settings

_SAID = {
    "trusted": "It is as it was signed, by somebody whom this service trusts.",
    "intact": "It is as it was signed. Nobody here vouches for the signer: name whom you trust by"
    " SFUMATO_CREDENTIALS__TRUST.",
    "altered": "It was altered after it was signed, or not signed as it should be.",
    "none": "It has no content credentials, which says nothing of where it is from.",
}


def run(settings: Settings, file: Path, as_json: bool) -> int:
    """Print what the file's credentials say; 0 if it is as it was signed, 1 else.

    Raises:
        Unreadable: it is no picture.
        NoCredentials: the certificates that are trusted cannot be read.
    """
    try:
        found = CredentialsOut.of(open_verifier(settings).verify(file.read_bytes()))
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror}.") from error
    except InvalidUpload as error:
        raise Unreadable(f"{file}: {error}") from error
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        typer.echo(_SAID[found.status])
        told = found.model_dump(exclude={"status", "faults"}, exclude_none=True)
        for name, value in told.items() if found.status != "none" else ():
            typer.echo(f"{name:<12}{value if isinstance(value, str) else json.dumps(value)}")
        for fault in found.faults:
            typer.echo(f"✗ {fault}")
    return 0 if found.status in ("trusted", "intact") else 1
