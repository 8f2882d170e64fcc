"""`sfumato up` as a child process, in a folder that is its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from serve.local.process import Leftovers
from serve.local.server import LAUNCHER

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 120.0
_COMMAND = str(Path(sys.executable).with_name("sfumato"))


class StartFailed(Exception):
    """`sfumato up` did not come up; the message is its output."""


@dataclass
class Up:
    """The command, its data under ``folder/data`` and its output in ``folder/up.log``."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    """Whole, with the settings; to be set before the start."""
    _process: subprocess.Popen[bytes] = field(init=False)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def output(self) -> str:
        return (self.folder / "up.log").read_text(errors="replace")

    async def start(self) -> None:
        """Run it and wait for its word that it is ready.

        Raises:
            StartFailed: it ended, or took too long.
        """
        self._process = self._spawn()
        until = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while "Sfumato is ready" not in self.output:
            if self._process.poll() is not None or asyncio.get_running_loop().time() > until:
                raise StartFailed(f"`sfumato up` did not start:\n{self.output}")
            await asyncio.sleep(0.2)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with (self.folder / "up.log").open("wb") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(LAUNCHER)),
                    # It ends with this process, even if that is killed.
                    *(f"--parent={os.getpid()}", f"--death-signal={signal.SIGINT.value}"),
                    *("--", _COMMAND, "up"),
                ],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the driver, which stops it in order
            )

    async def stop(self) -> int:
        """End it, with everything that it began; its exit status."""
        if self._process.poll() is None:
            family = psutil.Process(self.pid).children(recursive=True)
            for process in family:  # what stands still cannot end
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGINT)
            try:
                await asyncio.to_thread(self._process.wait, STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        Leftovers(self.data).end()
        return self._process.returncode


def short_folder(name: str) -> Path:
    """A new one with a path that sockets fit in, and that Postgres' own account may enter."""
    folder = Path(tempfile.mkdtemp(prefix=f"sfumato-{name}-", dir="/tmp"))
    folder.chmod(0o755)
    return folder
