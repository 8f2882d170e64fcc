"""What the figures were measured on, and with which versions; free of torch."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pipelines.bench.machine import cpu_model

_OURS = ("torch", "diffusers", "transformers", "fastapi", "ray")
_PEERS = Path(__file__).with_name("requirements.txt")


@dataclass(frozen=True, slots=True)
class Machine:
    """``load_average`` is that of the minute before the run: other work makes figures worse."""

    date: str
    cpu: str
    cores: int
    load_average: float
    versions: dict[str, str]

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {each}" for name, each in self.versions.items())
        return (
            f"{self.cpu}, {self.cores} hardware threads; load average {self.load_average:.1f} at"
            f" the start; {versions}; {self.date}."
        )


def describe_machine() -> Machine:
    """Read now; no name of the machine is in it."""
    peers = re.findall(r"^(\S+)==(\S+)$", _PEERS.read_text(encoding="utf-8"), re.MULTILINE)
    return Machine(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu=cpu_model(),
        cores=os.cpu_count() or 1,
        load_average=os.getloadavg()[0],
        versions={"Python": platform.python_version()}
        | {name: version(name) for name in _OURS}
        | dict(peers),
    )
