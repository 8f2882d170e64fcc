"""What every process of the service holds, every few seconds."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import astuple, dataclass, field
from pathlib import Path
from time import monotonic

import psutil

from loadtests.soak.family import POSTGRES, SUMMED, members, postgres_sockets
from serve.local.postgres import NAME, find_binaries

_CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process, or the sum of several."""

    memory: int
    """Bytes that are its own: USS; of Postgres, without the buffers that its processes share."""
    handles: int
    """Open file descriptors."""
    sockets: int
    threads: int

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass
class Series:
    """One row of the report: one process, or all of a role."""

    name: str
    seconds: list[float] = field(default_factory=list)
    usage: list[Usage] = field(default_factory=list)

    def add(self, at: float, usage: Usage) -> None:
        self.seconds.append(at)
        self.usage.append(usage)


@dataclass
class Samples:
    """A whole run's."""

    series: list[Series] = field(default_factory=list)
    connections: list[tuple[float, int]] = field(default_factory=list)
    """Of Postgres' clients; empty where Postgres runs elsewhere."""
    last_at: float = 0.0


class Sampler:
    """Looks at the processes below ``root``, which is `up`."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._sockets = postgres_sockets(root)
        self._rows: dict[str | psutil.Process, Series] = {}
        self._numbers: dict[str, int] = defaultdict(int)

    async def run(self, seconds: float, every_s: float) -> Samples:
        """Sample for so long.

        Raises:
            NoSuchProcess: `up` has ended.
        """
        samples = Samples()
        began = monotonic()
        while (at := monotonic() - began) < seconds:
            await asyncio.to_thread(self._look, at)
            if self._sockets is not None:
                samples.connections.append((at, await connections(self._sockets)))
            samples.last_at = at
            await asyncio.sleep(max(0.0, began + at + every_s - monotonic()))
        samples.series = sorted(self._rows.values(), key=lambda series: series.name)
        return samples

    def _look(self, at: float) -> None:
        sums: dict[str, Usage] = {}
        for role, process in members(self._root):
            try:
                usage = usage_of(process, role)
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            if role in SUMMED:
                sums[role] = sums[role] + usage if role in sums else usage
            else:
                self._row(process, role).add(at, usage)
        for role, usage in sums.items():
            self._rows.setdefault(role, Series(role)).add(at, usage)

    def _row(self, process: psutil.Process, role: str) -> Series:
        if process not in self._rows:
            self._numbers[role] += 1
            number = self._numbers[role]
            self._rows[process] = Series(role if number == 1 else f"{role} {number}")
        return self._rows[process]


def usage_of(process: psutil.Process, role: str) -> Usage:
    """What a process holds now."""
    with process.oneshot():
        own = _anonymous(process.pid) if role == POSTGRES else None
        return Usage(
            memory=process.memory_full_info().uss if own is None else own,
            handles=process.num_fds(),
            sockets=len(process.net_connections("all")),
            threads=process.num_threads(),
        )


def _anonymous(pid: int) -> int | None:
    """Bytes outside of files and shared memory; None where the kernel does not tell.

    Shared buffers that one backend alone has touched so far would count into its USS.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == "Pss_Anon":
            return int(value.split()[0]) * 1024
    return None


async def connections(sockets: str) -> int:
    """How many clients are connected to Postgres, this one not counted."""
    psql = await asyncio.create_subprocess_exec(
        str(find_binaries() / "psql"),
        *("-XAtq", "-v", "ON_ERROR_STOP=1", "-h", sockets, "-U", NAME, "-c", _CONNECTIONS, NAME),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await psql.communicate()
    if psql.returncode:
        raise ConnectionError(f"psql ended with {psql.returncode} at {sockets}.")
    return int(said)
