"""What the figures were measured on."""

from __future__ import annotations

import datetime
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Machine:
    """``load_average`` is that of the minute before the run: other work makes figures worse."""

    date: str
    device: str
    cpu: str
    cores: int
    threads: int
    load_average: float
    python: str
    torch: str
    cuda: str | None
    diffusers: str
    transformers: str


def describe_machine(device: torch.device) -> Machine:
    """Read now; no name of the machine is in it."""
    import diffusers
    import torch
    import transformers

    cpu = cpu_model()
    return Machine(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        cpu=cpu,
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        load_average=os.getloadavg()[0],
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        diffusers=diffusers.__version__,
        transformers=transformers.__version__,
    )


def cpu_model() -> str:
    """As the kernel names it. Needs no torch."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
