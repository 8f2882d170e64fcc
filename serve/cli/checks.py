"""What a start needs: `sfumato up` checks it before it starts anything, `sfumato doctor` always."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from uuid import uuid4

import httpx2
import typer

from pipelines.diffusion.speed.acceleration import AttentionBackend, Float8, Use
from serve.cli.target import api_key, base_url, database_url, redis_url
from serve.errors import ServiceError
from serve.settings import FurtherModelSettings, ModelSettings, Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check; ``cure`` is empty if nothing is wrong."""

    name: str
    state: str
    cure: str = ""


Check = Callable[[Settings], Finding]


def before_start(settings: Settings) -> list[Finding]:
    """What `up` cannot start with. Servers that it starts itself are not checked.

    If the checks would import torch or a classifier, a child process does them, since `up` lives
    as long as the service and would keep the memory.
    """
    torch = any(_needs_torch(model, settings) for model in settings.served.values())
    if not (torch or settings.least_gpus or settings.moderation.classifier):
        return _faults(settings)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        return child.submit(_faults, settings).result()


def _faults(settings: Settings) -> list[Finding]:
    checks: list[Check] = [
        *(partial(check_description, name, model) for name, model in settings.served.items()),
        check_resources,
        check_moderation,
        check_credentials,
        check_grammars,
        check_storage,
    ]
    if settings.database_url is not None:
        checks.append(partial(check_postgres, schema=False))
    if settings.redis_url is not None:
        checks.append(check_redis)
    return [finding for check in checks if (finding := check(settings)).cure]


def _needs_torch(model: FurtherModelSettings, settings: Settings) -> bool:
    """Whether it takes torch to find out if the device has what the settings want."""
    speed = settings.speed
    return (
        model.device.startswith("cuda")
        or speed.attention not in (AttentionBackend.AUTO, AttentionBackend.SDPA)
        or Use.ALWAYS in (speed.cuda_graphs, speed.decode_stream)
        or speed.float8 is not Float8.NEVER
    )


def check_description(name: str, model: FurtherModelSettings, settings: Settings) -> Finding:
    """Checks a model's description, and whether its device and files are there."""
    fault = _fault_of_files(model)
    if fault is None and _needs_torch(model, settings):
        fault = _fault_of_device(model, settings)
    if fault is None:
        return Finding("Model", name)
    field, cure = fault
    if field.startswith("SFUMATO_"):
        variable = field
    elif isinstance(model, ModelSettings):
        variable = f"SFUMATO_MODEL__{field.upper()}"
    else:
        variable = f"SFUMATO_MODELS ({name}.{field})"
    return Finding("Model", name, f"{variable}: {cure}")


def _fault_of_files(model: FurtherModelSettings) -> tuple[str, object] | None:
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
    for lora, file in model.loras.items():
        if not file.is_file():
            return "loras", f"there is no file {str(file)!r} for {lora!r}."
    for controlnet, folder in model.controlnets.items():
        if not folder.is_dir():
            return "controlnets", f"there is no folder {str(folder)!r} for {controlnet!r}."
    return None


def _fault_of_device(model: FurtherModelSettings, settings: Settings) -> tuple[str, object] | None:
    from pipelines.diffusion import errors
    from pipelines.diffusion.loading import choose_device, choose_dtype
    from pipelines.diffusion.speed.accelerate import check_speed_ups

    try:
        device = choose_device(model.device)
        dtype = choose_dtype(model.dtype, device)
        check_speed_ups(settings.speed.acceleration, device, dtype)
    except errors.UnsupportedDtypeError as error:
        return "dtype", error
    except errors.AccelerationError as error:
        return "SFUMATO_SPEED__…", error
    except errors.ModelLoadError as error:
        return "device", error
    return None


def check_resources(settings: Settings) -> Finding:
    """Whether this machine has what the fewest replicas reserve; else they would wait for ever."""
    threads = settings.worker.threads
    if settings.least_cpus > ray_cpus():
        cure = (
            f"The fewest replicas reserve {settings.least_cpus:g}: lower"
            " SFUMATO_SCALING__DIFFUSION_CPUS or the SFUMATO_SCALING__…_MIN."
        )
        return Finding("CPUs", f"{ray_cpus()} here", cure)
    if threads > (os.cpu_count() or 1):
        cure = (
            f"SFUMATO_WORKER__THREADS is {threads}, and more threads than CPUs only wait for one"
            " another: lower it, or unset it."
        )
        return Finding("CPUs", f"{os.cpu_count()} here", cure)
    if settings.least_gpus:
        import torch

        gpus = torch.cuda.device_count()
        if settings.least_gpus > gpus:
            cure = (
                f"The fewest replicas reserve {settings.least_gpus:g}: lower"
                " SFUMATO_SCALING__DIFFUSION_GPUS or SFUMATO_SCALING__DIFFUSION_MIN."
            )
            return Finding("GPUs", f"{gpus} here", cure)
    return Finding("CPUs", f"{ray_cpus()}")


def ray_cpus() -> int:
    """The CPUs that `up` gives its Ray: 4 or more, since replicas that mostly wait reserve some."""
    return max(4, os.cpu_count() or 1)


def check_grammars(settings: Settings) -> Finding:
    """Reads the grammar of each model as the artist does."""
    from serve.artist.errors import GrammarError
    from serve.artist.grammars import grammar_of

    try:
        names = {grammar_of(settings, model).name for model in settings.served}
    except GrammarError as error:
        return Finding("Grammars", "cannot be used", error.message)
    return Finding("Grammars", f"{len(names)} read")


def check_moderation(settings: Settings) -> Finding:
    """Sets moderation up as replicas do."""
    from serve.moderation.errors import ModerationSetupError
    from serve.moderation.moderation import Moderation

    moderation = settings.moderation
    before = sys.path[:]
    sys.path.append(str(Path.cwd()))  # Ray lets replicas look there as well
    try:
        Moderation(moderation)
    except ModerationSetupError as error:
        return Finding("Moderation", "cannot be set up, so that no replica starts", str(error))
    finally:
        sys.path[:] = before
    parts = [f"block-list {moderation.blocklist}"] if moderation.blocklist else []
    parts += [f"classifier {moderation.classifier}"] if moderation.classifier else []
    return Finding("Moderation", ", ".join(parts) or "no block-list, no classifier")


def check_credentials(settings: Settings) -> Finding:
    """Signs a picture, if pictures are signed, and reads whom to trust."""
    if not settings.credentials.enabled and settings.credentials.trust is None:
        return Finding("Content credentials", "off")
    from serve.pictures.credentials import NoCredentials, open_signer, open_verifier

    try:
        open_signer(settings)
        open_verifier(settings)
    except NoCredentials as error:
        return Finding("Content credentials", "no picture can be signed", error.message)
    if not settings.credentials.enabled:
        return Finding("Content credentials", f"off; trusted: {settings.credentials.trust}")
    own = settings.credentials.certificate
    return Finding("Content credentials", f"certificate {own}" if own else "self-made certificate")


def check_storage(settings: Settings) -> Finding:
    """Writes an object and deletes it."""
    from serve.storage import StorageError, open_storage

    async def use() -> None:
        storage = open_storage(settings.storage)
        key = f"doctor/{uuid4()}"
        await storage.put(key, b"sfumato", "text/plain")
        await storage.delete([key])

    try:
        asyncio.run(use())
    except StorageError as error:
        cure = "Check SFUMATO_STORAGE_URL and its permissions."
        return Finding("Storage", str(error).removesuffix("."), cure)
    return Finding("Storage", f"{settings.storage} can be written")


def check_redis(settings: Settings) -> Finding:
    """Pings Redis."""
    from serve.events.bus import EventBus

    async def use() -> bool:
        bus = EventBus(redis_url(settings))
        try:
            return await bus.ping()
        finally:
            await bus.close()

    if asyncio.run(use()):
        return Finding("Redis", "answers")
    return Finding(
        "Redis",
        "does not answer",
        "Start the server that REDIS_URL names, or correct that; unset, `sfumato up` starts one.",
    )


def check_postgres(settings: Settings, *, schema: bool = True) -> Finding:
    """Whether Postgres answers, and whether its ``schema`` is the newest."""
    from serve.migrations.upgrade import check_connection, check_schema

    check = check_schema if schema else check_connection
    try:
        asyncio.run(check(database_url(settings), settings.database))
    except ServiceError as error:
        return Finding("Postgres", "cannot be worked with", str(error))
    return Finding("Postgres", "answers, schema at its newest version" if schema else "answers")


def check_service(settings: Settings) -> Finding:
    """Whether the service is ready."""
    url = base_url(settings)
    try:
        answer = httpx2.get(f"{url}/ready", timeout=5, trust_env=False)
    except httpx2.HTTPError:
        return Finding("Service", f"none at {url}", "start it with `sfumato up`.")
    if answer.is_success:
        return Finding("Service", f"ready at {url}")
    return Finding("Service", "not ready", answer.text)


def key_of_service(settings: Settings) -> str:
    """The first tenant's key. If no service is ready, the command ends and names the cure."""
    key = api_key(settings)
    if key is None:
        typer.echo("No service has run here yet; start one with `sfumato up`.", err=True)
        raise typer.Exit(1)
    service = check_service(settings)
    if service.cure:
        typer.echo(f"{service.state}: {service.cure}", err=True)
        raise typer.Exit(1)
    return key
