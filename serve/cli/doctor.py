"""`sfumato doctor`: what is there, what is missing, and what to do about it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx2
from rich.console import Console

from serve.cli.ray_ports import dashboards, faults
from serve.cli.target import base_url, database_url, redis_url
from serve.errors import ServiceError
from serve.settings import FurtherModelSettings, Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome; ``cure`` is empty where nothing is wrong."""

    name: str
    state: str
    cure: str = ""


def run(settings: Settings) -> int:
    """Print every finding; 1 where anything needs a cure."""
    console = Console(highlight=False, soft_wrap=True)
    checks: list[Callable[[Settings], Finding]] = [
        _python,
        _torch,
        *(partial(_model, name, model) for name, model in settings.served.items()),
        _database,
        _redis,
        _storage,
        _service,
        _moderation,
        _ray_dashboard,
    ]
    sick = 0
    for check in checks:
        finding = check(settings)
        mark = "[red]✗[/]" if finding.cure else "[green]✓[/]"
        console.print(f"{mark} {finding.name}: {finding.state}")
        if finding.cure:
            sick += 1
            console.print(f"    {finding.cure}")
    return 1 if sick else 0


def _python(_: Settings) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", version, "" if sys.version_info >= (3, 11) else "Use Python 3.11.")


def _torch(_: Settings) -> Finding:
    import torch

    return Finding("PyTorch", torch.__version__)


def _model(name: str, settings: FurtherModelSettings, service: Settings) -> Finding:
    from pipelines.diffusion.catalog import SAFETY_CHECKER, describe, find_description
    from pipelines.diffusion.errors import ModelLoadError
    from pipelines.diffusion.loading import choose_device, choose_dtype
    from pipelines.diffusion.parts import check_parts

    without = () if service.moderation.safety_checker else (SAFETY_CHECKER,)
    try:
        folder = find_description(settings.path)
        model = describe(folder)
        if Path(settings.path).is_dir():  # of what is on the hub the weights are not here yet
            check_parts(folder, without)
        device = choose_device(settings.device)
        dtype = choose_dtype(settings.dtype, device)
    except ModelLoadError as error:
        return Finding("Model", name, str(error))
    size = f"{model.default_width}×{model.default_height} pixels"
    state = f"{name}: {model.class_name}, {size}, {device}, {dtype}"
    if model.has_safety_checker:
        switch = "on" if service.moderation.safety_checker else "off"
        state += f", safety checker {switch}"
    return Finding("Model", state)


def _moderation(settings: Settings) -> Finding:
    from serve.moderation.errors import ModerationSetupError
    from serve.moderation.moderation import Moderation

    asked = settings.moderation
    before = sys.path[:]
    sys.path.append(str(Path.cwd()))  # Ray lets replicas look there as well
    try:
        Moderation(asked)
    except ModerationSetupError as error:
        return Finding("Moderation", "cannot be set up, so that no replica starts", str(error))
    finally:
        sys.path[:] = before
    found = [f"block-list {asked.blocklist}"] if asked.blocklist else []
    found += [f"classifier {asked.classifier}"] if asked.classifier else []
    return Finding("Moderation", ", ".join(found) or "no block-list, no classifier")


def _database(settings: Settings) -> Finding:
    from serve.database import Database
    from serve.migrations.upgrade import pending_changes

    url = database_url(settings)

    async def look() -> int:
        database = Database(url, settings.database, pool_size=1)
        try:
            await database.ping()
            return len(await pending_changes(url))
        finally:
            await database.close()

    try:
        pending = asyncio.run(look())
    except ServiceError as error:
        return Finding("Postgres", str(error), "Start `sfumato up`, or set DATABASE_URL.")
    if pending:
        return Finding("Postgres", f"{pending} changes behind", "Run `sfumato migrate`.")
    return Finding("Postgres", "answers, schema at its newest version")


def _redis(settings: Settings) -> Finding:
    from serve.events import EventBus

    async def look() -> bool:
        bus = EventBus(redis_url(settings))
        try:
            return await bus.ping()
        finally:
            await bus.close()

    if asyncio.run(look()):
        return Finding("Redis", "answers")
    return Finding("Redis", "does not answer", "Start `sfumato up`, or set REDIS_URL.")


def _storage(settings: Settings) -> Finding:
    from serve.storage import StorageError, open_storage

    async def look() -> None:
        storage = open_storage(settings.storage)
        key = f"doctor/{uuid4()}"
        await storage.put(key, b"sfumato", "text/plain")
        await storage.delete([key])

    try:
        asyncio.run(look())
    except StorageError as error:
        return Finding("Storage", str(error), "Check SFUMATO_STORAGE_URL and its permissions.")
    return Finding("Storage", f"{settings.storage} can be written")


def _service(settings: Settings) -> Finding:
    try:
        answer = httpx2.get(f"{base_url(settings)}/ready", timeout=5)
    except httpx2.HTTPError:
        return Finding("Service", f"none at {base_url(settings)} (start it with `sfumato up`)")
    if answer.is_success:
        return Finding("Service", f"ready at {base_url(settings)}")
    return Finding("Service", "not ready", answer.text)


def _ray_dashboard(_: Settings) -> Finding:
    found = sorted(dashboards(), key=lambda listener: (listener.host, listener.port))
    if not found:
        return Finding("Ray's dashboard", "none on this machine")
    ports = ", ".join(f"{listener.host}:{listener.port}" for listener in found)
    told = faults(found)
    if told:
        return Finding(
            "Ray's dashboard",
            "; ".join(told),
            "Who reaches it runs code here: start Ray with RAY_AUTH_MODE=token and"
            " --dashboard-host=127.0.0.1.",
        )
    return Finding("Ray's dashboard", f"{ports}, loopback alone, asks for a token")
