"""`sfumato up`: starts every part on this machine in order, and stops them in reverse."""

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
from pathlib import Path, PurePath
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import httpx2
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape

from serve.cli import haproxy
from serve.cli.checks import before_start, ray_cpus
from serve.cli.target import api_key, base_url, database_url, key_file
from serve.deployments.replica_log import report_errors
from serve.errors import ServiceError
from serve.local.data_folder import FolderLock, write_atomically
from serve.local.errors import AlreadyRunning, LocalServerError, StartFailed, using_folder
from serve.local.postgres import LocalPostgres
from serve.local.process import Leftovers
from serve.local.valkey import LocalValkey
from serve.observability.logging import redact_records
from serve.settings import Settings

PROXY_LAYERS = "serve.deployments.proxy:layers"
RAY_DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # telemetry is the operator's to turn on
    "RAY_worker_niceness": "0",  # a service is no batch job
    # Ray would kill a replica whenever the machine's memory runs short, whoever takes it.
    "RAY_memory_monitor_refresh_ms": "0",
    # A proxy that is not ready by then is killed, and the start fails: the default of 5 s is short.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # Its rounds of 0.1 s are a quarter of what an idle service costs.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
    # From the ingress to the proxy an event costs half as much by gRPC as by Ray's own streams.
    "RAY_SERVE_PROXY_USE_GRPC": "1",
    # 1 GiB: pictures in base64, more than any answer has.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(1024 * 1024 * 1024),
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    # Unless it is told whom to trust, uvicorn trusts X-Forwarded-* from loopback.
    "FORWARDED_ALLOW_IPS": "",
}
"""Environment that Ray reads when it is imported; what is set already stays."""
_OBJECT_STORE_BYTES = 256 * 1024 * 1024
_READY_TIMEOUT_S = 600.0  # a large model takes minutes to load
_END_S = 10.0  # to answer the clients whose time is over, and to hand pictures back

console = Console(highlight=False, soft_wrap=True)


def overrides(model: str | None, name: str | None, dashboard: bool | None) -> dict[str, Any]:
    """The options of `up` as settings."""
    args: dict[str, Any] = {} if dashboard is None else {"dashboard": dashboard}
    if model is not None:
        # A relative path would mean another folder to the replicas.
        path = Path(model)
        if path.is_dir():
            model = str(path.resolve())
        name = name or PurePath(model).name
        args["model"] = {"path": model}
    if name is not None:
        args.setdefault("model", {})["name"] = name
    return args


def run(settings: Settings) -> int:
    """Start everything, wait for a signal, stop everything; the exit status."""
    redact_records(log_prompts=settings.log_prompts)
    report_errors(settings, process="up")
    stop = threading.Event()
    with ExitStack() as parts:
        try:
            settings, cluster = _start(settings, parts)
        except AlreadyRunning as error:
            process = "another process" if error.pid is None else f"process {error.pid}"
            console.print(f"[yellow]Sfumato runs already[/], as {process}.")
            console.print(
                "Stop that one first, or set SFUMATO_DATA_DIR to another folder and SFUMATO_PORT"
                " to another port."
            )
            return 1
        except (LocalServerError, ServiceError) as error:
            console.print(f"[red]✗[/] {escape(str(error))}")
            return 1
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: stop.set())
        _greet(settings, cluster)
        stop.wait()
        console.print(
            "\nStopping: waiting calls and pictures being drawn are finished first, within"
            f" {settings.worker.drain_s:g} s."
        )
        asyncio.run(_finish(settings))
    console.print("Stopped.")
    return 0


def _start(settings: Settings, parts: ExitStack) -> tuple[Settings, LocalRay]:
    """Start the parts, each of which ``parts`` stops; the settings, with what was missing."""
    lock = FolderLock("up", settings.data_dir.resolve())
    lock.claim()
    parts.callback(lock.release)
    leftovers = Leftovers(settings.data_dir.resolve())
    leftovers.end()
    check_port(settings)
    check_key(settings)
    _make_credentials(settings)
    if faults := before_start(settings):
        raise StartFailed(f"{faults[0].name}: {faults[0].state}. {faults[0].cure}")
    if settings.database_url is None:
        with _step("Postgres"):
            postgres = parts.enter_context(LocalPostgres(settings.data_dir))
        settings = settings.model_copy(update={"database_url": SecretStr(postgres.url)})
    if settings.redis_url is None:
        with _step("Valkey"):
            valkey = parts.enter_context(LocalValkey(settings.data_dir))
        settings = settings.model_copy(update={"redis_url": SecretStr(valkey.url)})
    with _step("Schema and key"):
        settings = asyncio.run(_prepare(settings))
    with _step("Ray"):
        cluster = start_ray(settings, parts)
    leftovers.note()  # if this process is killed from here on, they stay behind
    with _step(f"Model {settings.model.name}"):
        _deploy(settings, cluster.logs)
        _wait_until_ready(settings)
    leftovers.note()
    return settings, cluster


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Shows the step while it runs, and its time once it is done."""
    began = time.monotonic()
    name = escape(name)
    with console.status(f"{name} …"):
        yield
    console.print(f"[green]✓[/] {name} [dim]{time.monotonic() - began:.1f} s[/]")


def check_port(settings: Settings) -> None:
    """Raises `StartFailed` if nothing can listen on the host and port."""
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


def check_key(settings: Settings) -> None:
    """Raises `StartFailed` if the first tenant has a key already, and it is cut short."""
    from serve.access.keys import MIN_CHARS

    with using_folder(settings.data_dir.resolve()):
        key = api_key(settings)
    if key is not None and not (key.isascii() and len(key) >= MIN_CHARS):
        raise StartFailed(
            f"{key_file(settings)} holds no key of {MIN_CHARS} characters or more: write the right"
            " one there, or remove the file to have another one made."
        )


def _make_credentials(settings: Settings) -> None:
    """Make a certificate if pictures are to be signed, and there is none."""
    if settings.credentials.enabled and settings.credentials.certificate is None:
        from serve.pictures.credentials import make_pair, own_folder

        with using_folder(settings.data_dir.resolve()):
            make_pair(own_folder(settings))


async def _prepare(settings: Settings) -> Settings:
    """Migrate the schema, and make the first tenant's key if there is none; settings with it."""
    from serve.access.keys import Keys
    from serve.database import Database
    from serve.migrations.upgrade import upgrade

    await upgrade(database_url(settings), settings=settings.database)
    key = api_key(settings)
    if key is None:
        key = f"sfm_{secrets.token_urlsafe(32)}"
        with using_folder(settings.data_dir.resolve()):
            write_atomically(key_file(settings), key + "\n")
    database = Database(database_url(settings), settings.database, pool_size=1)
    try:
        await Keys(database).ensure(key)
    finally:
        await database.close()
    return settings.model_copy(update={"api_key": SecretStr(key)})


class LocalRay(NamedTuple):
    """Where a Ray that was started keeps its logs, and shows its dashboard if it has one."""

    logs: str
    dashboard_url: str | None


def start_ray(settings: Settings, parts: ExitStack) -> LocalRay:
    """Start a Ray of its own, with Serve's proxy at the service's port."""
    os.environ["DATABASE_URL"] = database_url(settings)  # for Serve's controller: see BacklogPolicy
    os.environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] = PROXY_LAYERS
    defaults = dict(RAY_DEFAULTS)
    if settings.haproxy:
        command = haproxy.command()
        if command is None:
            raise StartFailed("HAProxy comes with Ray on Linux alone: unset SFUMATO_HAPROXY.")
        defaults |= parts.enter_context(haproxy.in_front(settings, command))
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    # A cluster of its own, whatever RAY_ADDRESS says, or another installation of this machine.
    # Unless RAY_AUTH_MODE says otherwise, Ray makes it require the token in ~/.ray/auth_token:
    # without one, whoever reaches its ports could run code.
    context = ray.init(
        address="local",
        num_cpus=ray_cpus(),
        include_dashboard=settings.dashboard,
        dashboard_host="127.0.0.1",  # it asks for the token as well
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
    )
    parts.callback(_stop_ray)
    serve.start(http_options=HTTPOptions(host=settings.host, port=settings.port))
    about = cast(Any, context)
    dashboard = f"http://{about.dashboard_url}" if settings.dashboard else None
    return LocalRay(f"{about.address_info['session_dir']}/logs/serve", dashboard)


def _deploy(settings: Settings, logs: str) -> None:
    from ray import serve

    from serve.app import bind, first_gpus

    needed, here = first_gpus(settings)
    if needed > here:
        raise StartFailed(
            f"The replicas of all pools reserve {needed:g} GPUs at first, and Ray found {here:g}:"
            " give pools a fraction by `gpus`, or put their models into one."
        )
    try:
        serve.run(bind(settings), name="sfumato", route_prefix="/")
    except RuntimeError as error:
        # The last line of each failed deployment's message; its logs have the rest.
        application = serve.status().applications.get("sfumato")
        deployments = {} if application is None else application.deployments
        reasons = [
            f"  {name}: {status.message.strip().splitlines()[-1]}"
            for name, status in deployments.items()
            if status.message.strip()
        ]
        lines = [f"The service did not start: {error}", *reasons, f"  All of it: {logs}"]
        raise StartFailed("\n".join(lines)) from error


def _wait_until_ready(settings: Settings) -> None:
    until = time.monotonic() + _READY_TIMEOUT_S
    reason = "no answer"
    while time.monotonic() < until:
        try:
            answer = httpx2.get(f"{base_url(settings)}/ready", timeout=5, trust_env=False)
        except httpx2.HTTPError as error:
            reason = str(error)
        else:
            if answer.is_success:
                return
            reason = answer.text
        time.sleep(0.2)
    raise StartFailed(f"The service is not ready after {_READY_TIMEOUT_S:.0f} s: {reason}")


def _greet(settings: Settings, cluster: LocalRay) -> None:
    url = base_url(settings)
    key = api_key(settings) or ""
    lines = [
        "\n[bold]Sfumato is ready[/]",
        f"  URL        {url}/v1",
        f"  API key    {escape(key)}",
        f"  Gallery    {url}/#key={quote(key, safe='')}",
        f"  Docs       {url}/docs",
    ]
    if cluster.dashboard_url:
        lines.append(f"  Dashboard  {cluster.dashboard_url} [dim](token: `ray get-auth-token`)[/]")
    lines.append(f"  Logs       {escape(cluster.logs)}")
    tail = 'Try  sfumato generate "red heart" -o heart.png      Stop with Ctrl-C.'
    console.print("\n".join([*lines, "", tail]))


async def _finish(settings: Settings) -> None:
    """Let every replica finish while the proxy still answers, since Serve stops the proxy first.

    First the ingresses close their sockets and answer the waiting calls, while pictures are drawn
    for them. In the rest of the time the pictures being drawn are finished, or handed back.
    """
    from ray import serve

    from serve.app import diffusion_name

    until = time.monotonic() + settings.worker.drain_s
    await _tell("Ingress", "finish_calls", until)
    pools = [diffusion_name(pool) for pool in settings.served_pools]
    await asyncio.gather(*(_tell(pool, "drain", until) for pool in pools))
    # Here, because the handles are bound to this loop; quietly, as in `_stop_ray`.
    with redirect_stdout(io.StringIO()):
        await serve.shutdown_async()  # type: ignore[no-untyped-call]


async def _tell(deployment: str, method: str, until: float) -> None:
    """Call the method of all of its replicas with the seconds that are left, and wait for them."""
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    left = max(0.0, until - time.monotonic())
    try:
        ended = serve.get_deployment_handle(deployment, "sfumato").broadcast(method, left)
        await ended.results_async(timeout_s=left + _END_S, return_exceptions=True)
    except (RayError, RayServeException, TimeoutError) as error:
        console.print(f"[yellow]{deployment} was not heard to the end:[/] {error}")


def _stop_ray() -> None:
    import ray
    from ray import serve

    # Ray prints the controller's end as a failure, although we asked for it.
    with redirect_stdout(io.StringIO()):
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
