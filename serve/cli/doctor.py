"""`sfumato doctor`: what is there, what is missing, and what to do about it."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from serve.cli.checks import (
    Check,
    check_description,
    check_moderation,
    check_redis,
    check_resources,
    check_schema,
    check_service,
    check_storage,
)
from serve.cli.finding import Finding
from serve.cli.ray_ports import dashboards, faults
from serve.settings import FurtherModelSettings, Settings


def run(settings: Settings) -> int:
    """Print every finding; 1 where anything needs a cure."""
    console = Console(highlight=False, soft_wrap=True)
    checks: list[Check] = [
        _python,
        _torch,
        *(partial(_model, name, model) for name, model in settings.served.items()),
        check_resources,
        check_schema,
        check_redis,
        check_storage,
        _running,
        check_moderation,
        _ray_dashboard,
    ]
    sick = 0
    for check in checks:
        finding = check(settings)
        mark = "[red]✗[/]" if finding.cure else "[green]✓[/]"
        console.print(f"{mark} {finding.name}: {escape(finding.state)}")
        if finding.cure:
            sick += 1
            console.print(f"    {escape(finding.cure)}")
    return 1 if sick else 0


def _python(_: Settings) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", version, "" if sys.version_info >= (3, 11) else "Use Python 3.11.")


def _torch(_: Settings) -> Finding:
    import torch

    return Finding("PyTorch", torch.__version__)


def _model(name: str, settings: FurtherModelSettings, service: Settings) -> Finding:
    from pipelines.diffusion.catalog import SAFETY_CHECKER, describe, find_description
    from pipelines.diffusion.errors import DiffusionError
    from pipelines.diffusion.loading import check_folder, choose_device, choose_dtype

    described = check_description(name, settings, service)
    if described.cure:
        return described
    without = () if service.moderation.safety_checker else (SAFETY_CHECKER,)
    try:
        folder = find_description(settings.path)
        model = describe(folder)
        if Path(settings.path).is_dir():  # of what is on the hub the weights are not here yet
            check_folder(folder, model, settings.controlnets, settings.loras, without)
        device = choose_device(settings.device)
        dtype = choose_dtype(settings.dtype, device)
    except DiffusionError as error:
        return Finding("Model", name, str(error))
    size = f"{model.default_width}×{model.default_height} pixels"
    state = f"{name}: {model.class_name}, {size}, {device}, {dtype}"
    if model.has_safety_checker:
        switch = "on" if service.moderation.safety_checker else "off"
        state += f", safety checker {switch}"
    return Finding("Model", state)


def _running(settings: Settings) -> Finding:
    found = check_service(settings)
    if found.state.startswith("none "):  # that may be as it should
        return Finding(found.name, f"{found.state} (start it with `sfumato up`)")
    return found


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
