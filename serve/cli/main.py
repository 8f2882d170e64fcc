"""The `sfumato` command."""

from __future__ import annotations

import asyncio
import tempfile
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from pipelines.bench.output_file import output_file
from serve.cli import bench, config, doctor, generate, inspect, keys, models, redraw, up, verify
from serve.cli.target import database_url, settings
from serve.errors import ServiceError
from serve.local.errors import LocalServerError, using_folder
from serve.observability.sentry import report


class CommandGroup(TyperGroup):
    """Ends a command that fails with a sentence and status 1; a traceback goes to a file."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, TyperException, BrokenPipeError):
            raise
        except (ServiceError, LocalServerError) as error:
            typer.echo(f"✗ {error}", err=True)
        except Exception as error:  # noqa: BLE001 - the boundary of the process
            with tempfile.NamedTemporaryFile(
                "w", prefix="sfumato-", suffix=".traceback", delete=False, encoding="utf-8"
            ) as file:
                traceback.print_exception(error, file=file)
            report(error)
            message = str(error).strip().partition("\n")[0] or "without a word"
            typer.echo(
                f"✗ This failed unexpectedly ({type(error).__name__}: {message}); please report it"
                f" with {file.name}.",
                err=True,
            )
        raise typer.Exit(1)


app = typer.Typer(
    name="sfumato",
    help="Serve text-to-image diffusion models, batched per denoising step.",
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(keys.app, name="keys")
app.add_typer(bench.app, name="bench")
app.add_typer(config.app, name="config")
app.add_typer(models.app, name="models")


@app.command("up")
def start(
    model: Annotated[
        str | None, typer.Option(help="The default model: a diffusers folder, or a hub id.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What clients call it; unset, the last part of --model.")
    ] = None,
    dashboard: Annotated[
        bool | None, typer.Option(help="Whether to start Ray's dashboard. [default: yes]")
    ] = None,
) -> None:
    """Start the whole service on this machine, and stop it with Ctrl-C."""
    raise typer.Exit(up.run(settings(up.overrides(model, name, dashboard))))


@app.command("generate")
def draw(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help=f"File that ends in {', '.join(generate.FORMATS)}.",
            callback=output_file,
        ),
    ],
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, max=1000, help="Guidance scale.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=-1, max=2**63 - 1, help="Same seed, same picture; -1 for any.")
    ] = None,
    negative: Annotated[str | None, typer.Option(help="What the picture must not show.")] = None,
    size: Annotated[
        str | None,
        typer.Option(help="WIDTHxHEIGHT in pixels, or auto.", callback=generate.check_size),
    ] = None,
) -> None:
    """Draw one picture with the running service."""
    options = {
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "seed": seed,
        "negative_prompt": negative,
        "size": size,
    }
    given = {name: value for name, value in options.items() if value is not None}
    raise typer.Exit(generate.run(settings(), prompt, output, given))


_PICTURE = typer.Argument(help="A PNG, JPEG, WebP or AVIF file.", exists=True, dir_okay=False)


@app.command("inspect")
def tell(
    file: Annotated[Path, _PICTURE],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Print how a picture was made: with Sfumato, AUTOMATIC1111 or ComfyUI."""
    raise typer.Exit(inspect.run(file, as_json))


@app.command("redraw")
def draw_again(
    file: Annotated[Path, _PICTURE],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="PNG file to write.", callback=output_file),
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Instead of the file's.")] = None,
    model: Annotated[str | None, typer.Option(help="Instead of the file's.")] = None,
) -> None:
    """Draw a picture again from what its file says, and say by how much the two differ."""
    options = {"prompt": prompt, "model": model}
    given = {name: value for name, value in options.items() if value is not None}
    raise typer.Exit(redraw.run(settings(), file, output, given))


@app.command("verify")
def check_origin(
    file: Annotated[Path, _PICTURE],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Say where a picture is from, and whether it was altered, by its content credentials."""
    raise typer.Exit(verify.run(settings(), file, as_json))


@app.command("credentials")
def make_credentials(
    folder: Annotated[Path, typer.Argument(help="Where the two files go.", file_okay=False)],
) -> None:
    """Make a certificate of your own to sign pictures with, and its key."""
    from serve.pictures.credentials import make_pair

    with using_folder(folder):
        made = make_pair(folder)
    typer.echo(
        f"{'Made' if made else 'Kept'} {folder}/certificate.pem and {folder}/private-key.pem."
    )


@app.command("migrate")
def migrate() -> None:
    """Bring the database's schema to the newest version."""
    from serve.migrations.upgrade import upgrade

    current = settings()
    asyncio.run(upgrade(database_url(current), settings=current.database))
    typer.echo("The schema is at its newest version.")


@app.command("doctor")
def diagnose() -> None:
    """Check everything that the service needs, and say what to do about the rest."""
    raise typer.Exit(doctor.run(settings()))
