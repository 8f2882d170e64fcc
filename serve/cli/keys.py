"""`sfumato keys`: creates, lists and revokes API keys."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, TypeVar
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from serve.access.keys import MAX_EXPIRY_S, Keys
from serve.access.scopes import DEFAULT_SCOPES, Scope
from serve.cli.target import database_url, settings

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
T = TypeVar("T")

_MAX_NAME = 100  # as over HTTP
_SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


def _check_name(name: str | None) -> str | None:
    if name is not None and not (name.strip() and name.isprintable() and len(name) <= _MAX_NAME):
        raise typer.BadParameter(f"a name has 1 to {_MAX_NAME} printable characters.")
    return name


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.", callback=_check_name)],
    tenant: Annotated[
        str, typer.Option(help="Whose it is; made if new.", callback=_check_name)
    ] = "default",
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it may do; once for each. Unset: generate and read."),
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option(help="When it ends: `90d`, `12h`, `30m`, `45s`. Unset: never.")
    ] = None,
) -> None:
    """Make a key; it is shown this once."""
    scopes, expires_in_s = scope or DEFAULT_SCOPES, _duration(expires_in)
    key, row = _run(lambda keys: keys.create(tenant, name, scopes, expires_in_s))
    typer.echo(f"{key}\n\nKept as {row.prefix}… ({row.id}); it will not be shown again.")


@app.command("list")
def show(
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant's.", callback=_check_name)
    ] = None,
) -> None:
    """List keys, revoked ones too."""
    table = Table("id", "prefix", "name", "scopes", "created", "expires", "revoked")
    for key in _run(lambda keys: keys.list(tenant)):
        times = [_minute(time) for time in (key.created_at, key.expires_at, key.revoked_at)]
        table.add_row(str(key.id), key.prefix, key.name, ", ".join(key.scopes), *times)
    Console().print(table)


@app.command("revoke")
def revoke(key_id: Annotated[UUID, typer.Argument(help="The id that `list` shows.")]) -> None:
    """Close the door to a key."""
    _run(lambda keys: keys.revoke(key_id))
    typer.echo(f"Revoked {key_id}.")


def _minute(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else ""


def _duration(text: str | None) -> float | None:
    """Seconds of `90d`, `12h`, `30m` or `45s`."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,8})([dhms])", text)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= MAX_EXPIRY_S:
        raise typer.BadParameter("A time is like `90d`, `12h`, `30m` or `45s`; ten years at most.")
    return float(seconds)


def _run(call: Callable[[Keys], Awaitable[T]]) -> T:
    async def work() -> T:
        from serve.database import Database
        from serve.migrations.upgrade import check_schema

        current = settings()
        url = database_url(current)
        await check_schema(url, current.database)
        database = Database(url, current.database, pool_size=1)
        try:
            return await call(Keys(database))
        finally:
            await database.close()

    return asyncio.run(work())
