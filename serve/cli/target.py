"""Which service, database and key a command works on."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import typer

from serve.environment import WrongSettings, read_settings
from serve.settings import Settings


def settings() -> Settings:
    """The settings, or the end of the command with a line for each that is wrong."""
    try:
        return read_settings()
    except WrongSettings as error:
        for line in error.lines:
            typer.echo(f"✗ {line}", err=True)
        typer.echo("docs/settings.md describes every setting.", err=True)
        raise typer.Exit(2) from error


def database_url(settings: Settings) -> str:
    """The database that is configured, or the one that `sfumato up` runs under the data folder."""
    from serve.local.postgres import LocalPostgres

    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return LocalPostgres(settings.data_dir).url


def redis_url(settings: Settings) -> str:
    from serve.local.valkey import LocalValkey

    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    return LocalValkey(settings.data_dir).url


def base_url(settings: Settings) -> str:
    return url_of(settings.host, settings.port)


def url_of(host: str, port: int) -> str:
    """Where what listens there answers from this machine."""
    near = reachable(host)
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


def reachable(host: str) -> str:
    """An address at which one reaches from this machine what listens there."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def is_loopback(url: str) -> bool:
    """Whether it leads to this machine by its loopback interface."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def key_file(settings: Settings) -> Path:
    return settings.data_dir / "api_key"


def api_key(settings: Settings) -> str | None:
    """The first tenant's key: the one that is set, or the one that the first `up` made.

    A file without a word in it, as a power cut may leave, is none.
    """
    if settings.api_key is not None:
        return settings.api_key.get_secret_value()
    file = key_file(settings)
    return (file.read_text(errors="replace").strip() or None) if file.exists() else None
