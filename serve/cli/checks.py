"""What a start needs: `sfumato up` checks it before it starts anything, `sfumato doctor` always."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from uuid import uuid4

import httpx2
import typer

from pipelines.diffusion.speed.acceleration import AttentionBackend, Float8, Use
from serve.cli.finding import Finding
from serve.cli.target import api_key, base_url, database_url, redis_url
from serve.errors import ServiceError
from serve.settings import FurtherModelSettings, ModelSettings, Settings

Check = Callable[[Settings], Finding]


def before_start(settings: Settings) -> list[Finding]:
    """What `up` cannot start with; servers that it starts itself are not asked.

    What would import torch or a classifier is done by a process of its own: `up` lives as long as
    the service.
    """
    torch = any(_needs_torch(model, settings) for model in settings.served.values())
    if not (torch or settings.scaling.diffusion_gpus or settings.moderation.classifier):
        return _faults(settings)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        return child.submit(_faults, settings).result()


def _faults(settings: Settings) -> list[Finding]:
    checks: list[Check] = [
        *(partial(check_description, name, model) for name, model in settings.served.items()),
        check_resources,
        check_moderation,
        check_storage,
    ]
    if settings.database_url is not None:
        checks.append(_connection)
    if settings.redis_url is not None:
        checks.append(check_redis)
    return [finding for check in checks if (finding := check(settings)).cure]


def _needs_torch(model: FurtherModelSettings, settings: Settings) -> bool:
    """Whether what is asked of the device may be more than any has."""
    speed = settings.speed
    return (
        model.device.startswith("cuda")
        or speed.attention not in (AttentionBackend.AUTO, AttentionBackend.SDPA)
        or Use.ALWAYS in (speed.cuda_graphs, speed.decode_stream)
        or speed.float8 is not Float8.NEVER
    )


def check_description(name: str, model: FurtherModelSettings, settings: Settings) -> Finding:
    """What the JSON files of a model's folder tell, and whether its device and files are there."""
    for fault in (_fault_of_folder(model), _fault_of_files(model)):
        if fault is not None:
            return _wrong(name, model, *fault)
    if _needs_torch(model, settings):
        fault = _fault_of_device(model, settings)
        if fault is not None:
            return _wrong(name, model, *fault)
    return Finding("Model", name)


def _wrong(name: str, model: FurtherModelSettings, field: str, cure: object) -> Finding:
    if field.startswith("SFUMATO_"):
        place = field
    elif isinstance(model, ModelSettings):
        place = f"SFUMATO_MODEL__{field.upper()}"
    else:
        place = f"SFUMATO_MODELS ({name}.{field})"
    return Finding("Model", name, f"{place}: {cure}")


def _fault_of_folder(model: FurtherModelSettings) -> tuple[str, object] | None:
    """The field, and what is wrong with it."""
    from pipelines.diffusion.catalog import describe, find_description
    from pipelines.diffusion.errors import ModelLoadError

    try:
        description = describe(find_description(model.path))
    except ModelLoadError as error:
        return "path", error
    width, height = description.default_width, description.default_height
    if width * height > model.max_pixels:
        return (
            "max_pixels",
            f"{model.max_pixels} pixels are fewer than the {width}x{height} that this model draws"
            f" by itself; allow {width * height} or more.",
        )
    return None


def _fault_of_files(model: FurtherModelSettings) -> tuple[str, object] | None:
    for lora, file in model.loras.items():
        if not file.is_file():
            return "loras", f"there is no file {str(file)!r} for {lora!r}."
    for controlnet, folder in model.controlnets.items():
        if not folder.is_dir():
            return "controlnets", f"there is no folder {str(folder)!r} for {controlnet!r}."
    return None


def _fault_of_device(model: FurtherModelSettings, settings: Settings) -> tuple[str, object] | None:
    from pipelines.diffusion.errors import (
        AccelerationError,
        ModelLoadError,
        UnsupportedDtypeError,
    )
    from pipelines.diffusion.loading import choose_device, choose_dtype
    from pipelines.diffusion.speed.accelerate import check_speed_ups

    try:
        device = choose_device(model.device)
        dtype = choose_dtype(model.dtype, device)
        check_speed_ups(settings.speed.acceleration, device, dtype)
    except UnsupportedDtypeError as error:
        return "dtype", error
    except AccelerationError as error:
        return "SFUMATO_SPEED__…", error
    except ModelLoadError as error:
        return "device", error
    return None


def check_resources(settings: Settings) -> Finding:
    """Whether this machine has what the fewest replicas reserve, or they would wait for ever."""
    scaling = settings.scaling
    there, wanted = float(ray_cpus()), scaling.least_cpus
    if wanted > there:
        return Finding(
            "CPUs",
            f"{there:g} here",
            f"The fewest replicas reserve {wanted:g}: lower SFUMATO_SCALING__DIFFUSION_CPUS or the"
            " SFUMATO_SCALING__…_MIN.",
        )
    if settings.worker.threads > (os.cpu_count() or 1):
        return Finding(
            "CPUs",
            f"{os.cpu_count()} here",
            f"SFUMATO_WORKER__THREADS is {settings.worker.threads}, and more threads than CPUs only"
            " wait for one another: lower it, or unset it.",
        )
    if scaling.diffusion_gpus:
        import torch

        there, wanted = float(torch.cuda.device_count()), scaling.least_gpus
        if wanted > there:
            return Finding(
                "GPUs",
                f"{there:g} here",
                f"The fewest replicas reserve {wanted:g}: lower SFUMATO_SCALING__DIFFUSION_GPUS or"
                " SFUMATO_SCALING__DIFFUSION_MIN.",
            )
    return Finding("CPUs", f"{ray_cpus()}")


def ray_cpus() -> int:
    """As many as `up` gives its Ray: replicas that mostly wait reserve some as well."""
    return max(4, os.cpu_count() or 1)


def check_moderation(settings: Settings) -> Finding:
    """Sets it up as replicas do."""
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


def check_storage(settings: Settings) -> Finding:
    """Writes an object and deletes it."""
    from serve.storage import StorageError, open_storage

    async def look() -> None:
        storage = open_storage(settings.storage)
        key = f"doctor/{uuid4()}"
        await storage.put(key, b"sfumato", "text/plain")
        await storage.delete([key])

    try:
        asyncio.run(look())
    except StorageError as error:
        return Finding(
            "Storage",
            str(error).removesuffix("."),
            "Check SFUMATO_STORAGE_URL and its permissions.",
        )
    return Finding("Storage", f"{settings.storage} can be written")


def check_redis(settings: Settings) -> Finding:
    """Pings it."""
    from serve.events.bus import EventBus

    async def look() -> bool:
        bus = EventBus(redis_url(settings))
        try:
            return await bus.ping()
        finally:
            await bus.close()

    if asyncio.run(look()):
        return Finding("Redis", "answers")
    return Finding(
        "Redis",
        "does not answer",
        "Start the server that REDIS_URL names, or correct that; unset, `sfumato up` starts one.",
    )


def check_schema(settings: Settings) -> Finding:
    """Whether Postgres answers, and its schema is the newest."""
    from serve.migrations import upgrade

    try:
        asyncio.run(upgrade.check_schema(database_url(settings), settings.database))
    except ServiceError as error:
        return Finding("Postgres", "cannot be worked with", str(error))
    return Finding("Postgres", "answers, schema at its newest version")


def check_service(settings: Settings) -> Finding:
    """Whether it is ready."""
    url = base_url(settings)
    try:
        answer = httpx2.get(f"{url}/ready", timeout=5, trust_env=False)
    except httpx2.HTTPError:
        return Finding("Service", f"none at {url}", "start it with `sfumato up`.")
    if answer.is_success:
        return Finding("Service", f"ready at {url}")
    return Finding("Service", "not ready", answer.text)


def key_of_service(settings: Settings) -> str:
    """The first tenant's key of a service that is ready, or the end of the command with a cure."""
    key = api_key(settings)
    if key is None:
        typer.echo("No service has run here yet; start one with `sfumato up`.", err=True)
        raise typer.Exit(1)
    service = check_service(settings)
    if service.cure:
        typer.echo(f"{service.state}: {service.cure}", err=True)
        raise typer.Exit(1)
    return key


def _connection(settings: Settings) -> Finding:
    from serve.migrations import upgrade

    try:
        asyncio.run(upgrade.check_connection(database_url(settings), settings.database))
    except ServiceError as error:
        return Finding("Postgres", "cannot be worked with", str(error))
    return Finding("Postgres", "answers")
