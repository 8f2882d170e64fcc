"""`sfumato models`: which models and LoRAs the running service serves."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from serve.cli.client import call
from serve.cli.target import settings

app = typer.Typer(
    help="List, add, pause, resume and remove models while the service runs.", no_args_is_help=True
)
lora = typer.Typer(help="Add and remove LoRAs of a model.", no_args_is_help=True)
app.add_typer(lora, name="lora")
Name = Annotated[str, typer.Argument(help="What clients call the model.")]
Lora = Annotated[str, typer.Argument(help="What clients call the LoRA.")]

_URL = "/v1/operator/models"
_LOOK_S = 1.0
_UPLOAD_S = 600.0


@app.command("list")
def show() -> None:
    """List the models with their queues, and the replicas that have them."""
    table = Table("model", "pool", "state", "queued", "running", "ready", box=None)
    table.add_column("path", overflow="fold")
    for model in call(settings(), "GET", _URL)["data"]:
        table.add_row(
            model["name"],
            model["pool"],
            model["state"],
            str(model["queued"]),
            str(model["running"]),
            f"{model['ready']} of {model['replicas']}",
            model["error"] or model["path"],
        )
    Console(soft_wrap=True).print(table)


@app.command("add")
def add(
    name: Name,
    path: Annotated[str, typer.Argument(help="A diffusers folder, or a hub id.")],
    pool: Annotated[
        str | None, typer.Option(help="The pool that draws with it; unset, the default model's.")
    ] = None,
    default_steps: Annotated[int | None, typer.Option(min=1, help="Where none are asked.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="The most of one picture.")] = None,
) -> None:
    """Serve a further model from now on, in replicas that go on running."""
    options = {"pool": pool, "default_steps": default_steps, "max_steps": max_steps}
    body = {name: value for name, value in options.items() if value is not None}
    call(settings(), "POST", _URL, {"name": name, "path": path, **body})
    typer.echo(f"{name} is served once a replica has found its files: see `sfumato models list`.")


@app.command("pause")
def pause(
    name: Name,
    drain: Annotated[
        bool, typer.Option("--drain", help="Wait until nothing of it is drawn.")
    ] = False,
) -> None:
    """Take no more jobs for the model; its queue is kept."""
    status = _change(name, paused=True)
    while drain and status["running"]:
        time.sleep(_LOOK_S)
        status = _change(name, paused=True)
    typer.echo(f"{name} is paused: {status['queued']} queued, {status['running']} running.")


@app.command("resume")
def resume(name: Name) -> None:
    """Have a paused model go on."""
    _change(name, paused=False)
    typer.echo(f"{name} goes on.")


@app.command("remove")
def remove(name: Name) -> None:
    """Serve the model no more; its queued jobs fail."""
    call(settings(), "DELETE", f"{_URL}/{quote(name)}")
    typer.echo(f"{name} is removed.")


@lora.command("add")
def add_lora(
    model: Name,
    name: Lora,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="*.safetensors.")],
) -> None:
    """Upload a LoRA, or another file in its place; each replica loads it when it is first named."""
    call(settings(), "PUT", _lora_url(model, name), timeout_s=_UPLOAD_S, file=file.read_bytes())
    typer.echo(f"{name} can be named by requests for {model}.")


@lora.command("remove")
def remove_lora(model: Name, name: Lora) -> None:
    """Take no more requests that name the LoRA."""
    call(settings(), "DELETE", _lora_url(model, name))
    typer.echo(f"{name} is removed.")


def _lora_url(model: str, name: str) -> str:
    return f"{_URL}/{quote(model)}/loras/{quote(name, safe='')}"


def _change(name: str, *, paused: bool) -> dict[str, Any]:
    status: dict[str, Any] = call(settings(), "PATCH", f"{_URL}/{quote(name)}", {"paused": paused})
    return status
