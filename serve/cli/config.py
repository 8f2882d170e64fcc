"""`sfumato config`: checks the configuration, shows what is in force, prints its JSON schema."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, SecretStr

from serve.cli.target import settings
from serve.origins import Origins, variable_of
from serve.settings import Section, Settings

app = typer.Typer(help="Check and show the configuration.", no_args_is_help=True)
File = Annotated[
    Path | None, typer.Argument(help="A YAML file; unset, the one that SFUMATO_CONFIG names.")
]


@app.command("check")
def check(file: File = None) -> None:
    """Say what is wrong with the configuration, without starting anything."""
    _use(file)
    current = settings()
    models, pools = len(current.served), len(current.served_pools)
    typer.echo(f"✓ {models} model(s) in {pools} pool(s); every setting is valid.")


@app.command("show")
def show(
    file: File = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only what differs from its default.")
    ] = False,
) -> None:
    """Print every setting in force as YAML, with where it comes from; secrets stay hidden."""
    _use(file)
    current = settings()
    for line in _lines(current, Origins.of_process(), changed=changed):
        typer.echo(line)


@app.command("schema")
def schema() -> None:
    """Print the file's JSON schema, by which editors complete and check it."""
    typer.echo(json.dumps(file_schema(), indent=2))


def file_schema() -> dict[str, Any]:
    """The JSON schema of the YAML file: every setting but the file's own path."""
    schema = Settings.model_json_schema(by_alias=False)
    del schema["properties"]["config"]
    del schema["$defs"]["ModelSettings"]["properties"]["path"]["default"]  # is this installation's
    for each in schema["properties"].values():
        if "$ref" in each:
            del each["default"]  # a section's fields have their own
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _use(file: Path | None) -> None:
    if file is not None:
        os.environ[variable_of(["config"])] = str(file)


def _lines(current: Settings, origins: Origins, *, changed: bool) -> Iterator[str]:
    for name in Settings.model_fields:
        if name == "config":  # what is printed is the content of such a file
            continue
        value = getattr(current, name)
        if isinstance(value, Section):
            inner = [(key, getattr(value, key)) for key in type(value).model_fields]
        elif isinstance(value, dict):
            inner = [(key, each) for key, each in value.items()]
        else:
            if not changed or origins.of([name]) != "default":
                yield _line(name, value, origins.of([name]))
            continue
        lines = [
            f"  {_line(key, each, origins.of([name, key]))}"
            for key, each in inner
            if not changed or origins.of([name, key]) != "default"
        ]
        if lines:
            yield f"{name}:"
            yield from lines


def _line(key: str, value: object, origin: str) -> str:
    if isinstance(value, SecretStr):
        return f"# {key} is set, by {origin}"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_unset=True)
    return f"{key}: {json.dumps(value, default=str, ensure_ascii=False)}  # {origin}"
