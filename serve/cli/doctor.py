"""`sfumato doctor`: what is there, what is missing, and what to do about it."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import httpx2
import psutil
from rich.console import Console
from rich.markup import escape

from serve.cli import checks
from serve.cli.checks import Check, Finding
from serve.cli.target import url_of
from serve.settings import FurtherModelSettings, Settings

_DASHBOARD = "ray/dashboard/dashboard.py"


def run(settings: Settings) -> int:
    """Print every finding; 1 if anything needs a cure."""
    console = Console(highlight=False, soft_wrap=True)
    all_checks: list[Check] = [
        _python,
        _torch,
        *(partial(_model, name, model) for name, model in settings.served.items()),
        checks.check_resources,
        checks.check_postgres,
        checks.check_redis,
        checks.check_storage,
        _service,
        checks.check_moderation,
        checks.check_credentials,
        checks.check_grammars,
        _ray_dashboard,
    ]
    status = 0
    for check in all_checks:
        finding = check(settings)
        mark = "[red]✗[/]" if finding.cure else "[green]✓[/]"
        console.print(f"{mark} {finding.name}: {escape(finding.state)}")
        if finding.cure:
            status = 1
            console.print(f"    {escape(finding.cure)}")
    return status


def _python(_: Settings) -> Finding:
    return Finding("Python", platform.python_version())


def _torch(_: Settings) -> Finding:
    import torch

    return Finding("PyTorch", torch.__version__)


def _model(name: str, model: FurtherModelSettings, settings: Settings) -> Finding:
    from pipelines.diffusion.catalog import SAFETY_CHECKER, describe, find_description
    from pipelines.diffusion.errors import DiffusionError
    from pipelines.diffusion.loading import check_folder, choose_device, choose_dtype

    finding = checks.check_description(name, model, settings)
    if finding.cure:
        return finding
    checker = settings.moderation.safety_checker
    try:
        folder = find_description(model.path)
        description = describe(folder)
        if Path(model.path).is_dir():  # the weights of a model on the hub are not here yet
            without = () if checker else (SAFETY_CHECKER,)
            check_folder(folder, description, model.controlnets, model.loras, without)
        device = choose_device(model.device)
        dtype = choose_dtype(model.dtype, device)
    except DiffusionError as error:
        return Finding("Model", name, str(error))
    size = f"{description.default_width}×{description.default_height} pixels"
    state = f"{name}: {description.class_name}, {size}, {device}, {dtype}"
    if description.has_safety_checker:
        state += f", safety checker {'on' if checker else 'off'}"
    return Finding("Model", state)


def _service(settings: Settings) -> Finding:
    finding = checks.check_service(settings)
    if finding.state.startswith("none "):  # it need not run
        return Finding(finding.name, f"{finding.state} (start it with `sfumato up`)")
    return finding


def _ray_dashboard(_: Settings) -> Finding:
    """Who may reach Ray's dashboard: whoever submits a job there runs code on this machine."""
    found = sorted(dashboards(), key=lambda listener: (listener.host, listener.port))
    if not found:
        return Finding("Ray's dashboard", "none on this machine")
    if problems := faults(found):
        return Finding(
            "Ray's dashboard",
            "; ".join(problems),
            "Who reaches it runs code here: start Ray with RAY_AUTH_MODE=token and"
            " --dashboard-host=127.0.0.1.",
        )
    ports = ", ".join(f"{listener.host}:{listener.port}" for listener in found)
    return Finding("Ray's dashboard", f"{ports}, loopback alone, asks for a token")


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP port that a process listens on."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        address = ip_address(self.host)
        # Python before 3.13 does not count ::ffff:127.0.0.1 as loopback.
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback

    @property
    def url(self) -> str:
        """Its address from this machine."""
        return url_of(self.host, self.port)


def dashboards() -> Iterator[Listener]:
    """The ports of all dashboards on this machine whose processes we may inspect.

    The dashboard serves Ray's job API on the same port. On another port its process serves
    metrics for Prometheus; if the dashboard is switched off, on that alone.
    """
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(word.endswith(_DASHBOARD) for word in process.cmdline()):
                yield from (each for each in listeners(process) if not tells_metrics(each))


def listeners(process: psutil.Process) -> Iterator[Listener]:
    """The TCP ports that the process listens on."""
    for connection in process.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN:
            yield Listener(connection.laddr.ip, connection.laddr.port)


def tells_metrics(listener: Listener) -> bool:
    """Whether the port answers any path with Prometheus' text format: it accepts no jobs."""
    with suppress(httpx2.HTTPError):
        answer = httpx2.get(f"{listener.url}/api/version", timeout=3, trust_env=False)
        return answer.headers.get("content-type", "").startswith("text/plain; version=")
    return False


def faults(found: Iterable[Listener]) -> list[str]:
    """A sentence for each port that other machines may reach, or that requires no token."""
    problems = []
    for listener in found:
        if not listener.loopback:
            problems.append(
                f"it listens on {listener.host}:{listener.port}, which other machines may reach"
            )
        for path in ("/api/jobs/", "/api/version"):
            with suppress(httpx2.HTTPError):  # no answer gives nothing away
                answer = httpx2.get(listener.url + path, timeout=3, trust_env=False)
                if not answer.is_client_error:
                    problems.append(
                        f"{listener.url}{path} answers {answer.status_code} without a token"
                    )
    return problems
