"""The service, the database and the key that a command works on."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer

from serve.environment import WrongSettings, read_settings
from serve.settings import Settings


def settings(args: Mapping[str, Any] | None = None) -> Settings:
    """The settings, overridden by ``args``. If some are wrong, the command ends with a line for
    each.
    """
    try:
        return read_settings(args)
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
    """The URL, from this machine, of what listens on that host and port."""
    address = reachable(host)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def reachable(host: str) -> str:
    """An address that reaches, from this machine, what listens on that host."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine's loopback interface."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def key_file(settings: Settings) -> Path:
    return settings.data_dir / "api_key"


def api_key(settings: Settings) -> str | None:
    """The first tenant's key, from the settings or from the file that the first `up` wrote.

    A file that is empty, as a power cut may leave it, has no key.
    """
    if settings.api_key is not None:
        return settings.api_key.get_secret_value()
    file = key_file(settings)
    return (file.read_text(errors="replace").strip() or None) if file.exists() else None
