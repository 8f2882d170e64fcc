"""`sfumato up`: every real part on this machine, in order, and back down in reverse."""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout

import httpx2
from pydantic import SecretStr
from rich.console import Console

from serve.cli import haproxy
from serve.cli.target import api_key, base_url, database_url, key_file
from serve.errors import ServiceError
from serve.local.errors import AlreadyRunning, LocalServerError
from serve.local.leftovers import Leftovers
from serve.local.lock import FolderLock
from serve.local.postgres import LocalPostgres
from serve.local.valkey import LocalValkey
from serve.settings import Settings

PROXY_LAYERS = "serve.deployments.proxy:layers"
_READY_TIMEOUT_S = 600.0  # a large model takes minutes to load
_ANSWER_BYTES = 1024 * 1024 * 1024  # pictures in base64; more than any answer
_OBJECT_STORE_BYTES = 256 * 1024 * 1024

console = Console(highlight=False, soft_wrap=True)


class StartFailed(Exception):
    """A part did not come up; the message names the cure."""


def run(settings: Settings) -> int:
    """Start everything, wait for a signal, stop everything; the exit status."""
    stop = threading.Event()
    with ExitStack() as parts:
        try:
            settings = _start(settings, parts)
        except AlreadyRunning as error:
            console.print(f"[yellow]Sfumato runs already[/], as process {error.pid}.")
            console.print("Stop that one first, or set SFUMATO_DATA_DIR to another folder.")
            return 1
        except (LocalServerError, ServiceError, StartFailed) as error:
            console.print(f"[red]✗[/] {error}")
            return 1
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: stop.set())
        _greet(settings)
        stop.wait()
        console.print("\nStopping: pictures being drawn are finished first.")
    console.print("Stopped.")
    return 0


def _start(settings: Settings, parts: ExitStack) -> Settings:
    data_dir = settings.data_dir.resolve()
    lock = FolderLock("up", data_dir)
    lock.claim()
    parts.callback(lock.release)
    leftovers = Leftovers(data_dir)
    leftovers.end()
    check_port(settings)
    if settings.database_url is None:
        with _line("Postgres"):
            postgres = parts.enter_context(LocalPostgres(settings.data_dir))
        settings = settings.model_copy(update={"database_url": SecretStr(postgres.url)})
    if settings.redis_url is None:
        with _line("Valkey"):
            valkey = parts.enter_context(LocalValkey(settings.data_dir))
        settings = settings.model_copy(update={"redis_url": SecretStr(valkey.url)})
    with _line("Schema and key"):
        settings = asyncio.run(_prepare(settings))
    with _line("Ray"):
        _start_ray(settings, parts)
    with _line(f"Model {settings.model.name}"):
        _deploy(settings)
        _wait_until_ready(settings)
    leftovers.note()
    return settings


@contextmanager
def _line(name: str) -> Iterator[None]:
    began = time.monotonic()
    with console.status(f"{name} …"):
        yield
    console.print(f"[green]✓[/] {name} [dim]{time.monotonic() - began:.1f} s[/]")


def check_port(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, settings.port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartFailed(
                f"Port {settings.port} of {settings.host} is taken: stop what listens there, or"
                " set SFUMATO_PORT to another port."
            ) from error
        raise StartFailed(
            f"Nothing can listen on port {settings.port} of {settings.host} ({error.strerror}): set"
            " SFUMATO_HOST to an address of this machine, and SFUMATO_PORT to 1024 or more."
        ) from error


async def _prepare(settings: Settings) -> Settings:
    """Migrate, and see that the first tenant's key opens the door."""
    from serve.database import Database
    from serve.migrations.upgrade import upgrade
    from serve.security.keys import Keys

    await upgrade(database_url(settings), settings=settings.database)
    key = api_key(settings)
    if key is None:
        key = f"sfm_{secrets.token_urlsafe(32)}"
        descriptor = os.open(key_file(settings), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(key + "\n")
    database = Database(database_url(settings), settings.database, pool_size=1)
    try:
        await Keys(database).ensure(key)
    finally:
        await database.close()
    return settings.model_copy(update={"api_key": SecretStr(key)})


def _start_ray(settings: Settings, parts: ExitStack) -> None:
    os.environ["DATABASE_URL"] = database_url(settings)  # for Serve's controller: see BacklogPolicy
    # Ray reads these when it is imported; telemetry is the operator's to turn on.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # a service is no batch job
    # A proxy that is not ready by then is killed, and the start with it: five seconds are few.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    os.environ.setdefault("RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S", "1")
    os.environ.setdefault("RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S", "2")
    # From the ingress to the proxy an event costs half as much this way as by Ray's own streams.
    os.environ.setdefault("RAY_SERVE_PROXY_USE_GRPC", "1")
    os.environ.setdefault("RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH", str(_ANSWER_BYTES))
    os.environ.setdefault("RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP", "0")
    # uvicorn believes X-Forwarded-* from loopback unless it is told whom to believe.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    os.environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] = PROXY_LAYERS
    if settings.haproxy:
        _put_haproxy_in_front(settings, parts)
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    # Ray makes a cluster of its own ask for the token in ~/.ray/auth_token, unless RAY_AUTH_MODE
    # says otherwise: who reaches its ports without one could run code.
    ray.init(
        address="local",
        num_cpus=max(4, os.cpu_count() or 1),
        include_dashboard=False,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
    )
    parts.callback(_stop_ray)
    serve.start(http_options=HTTPOptions(host=settings.host, port=settings.port))


def _put_haproxy_in_front(settings: Settings, parts: ExitStack) -> None:
    command = haproxy.command()
    if command is None:
        raise StartFailed("HAProxy comes with Ray on Linux alone: unset SFUMATO_HAPROXY.")
    for name, value in parts.enter_context(haproxy.in_front(settings, command)).items():
        os.environ.setdefault(name, value)


def _stop_ray() -> None:
    import ray
    from ray import serve

    # Ray prints the controller's end, which it is asked for, as a failure.
    with redirect_stdout(io.StringIO()):
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


def _deploy(settings: Settings) -> None:
    from ray import serve

    from serve.app import bind

    try:
        serve.run(bind(settings), name="sfumato", route_prefix="/")
    except RuntimeError as error:
        raise StartFailed(f"The service did not start: {error}\n{_why()}") from error


def _why() -> str:
    """The last line that each failed deployment said; its logs say the rest."""
    from ray import serve

    deployments = serve.status().applications["sfumato"].deployments
    said = [
        f"  {name}: {status.message.strip().splitlines()[-1]}"
        for name, status in deployments.items()
        if status.message.strip()
    ]
    return "\n".join([*said, "  All of it: /tmp/ray/session_latest/logs/serve"])


def _wait_until_ready(settings: Settings) -> None:
    until = time.monotonic() + _READY_TIMEOUT_S
    said = "no answer"
    while time.monotonic() < until:
        try:
            answer = httpx2.get(f"{base_url(settings)}/ready", timeout=5)
        except httpx2.HTTPError as error:
            said = str(error)
        else:
            if answer.is_success:
                return
            said = answer.text
        time.sleep(0.2)
    raise StartFailed(f"The service is not ready after {_READY_TIMEOUT_S:.0f} s: {said}")


def _greet(settings: Settings) -> None:
    url = base_url(settings)
    key = api_key(settings)
    console.print(
        f"\n[bold]Sfumato is ready[/]\n"
        f"  URL      {url}/v1\n"
        f"  API key  {key}\n"
        f"  Gallery  {url}/#key={key}\n"
        f"  Docs     {url}/docs\n\n"
        f'Try  sfumato generate "red heart" -o heart.png      Stop with Ctrl-C.'
    )
