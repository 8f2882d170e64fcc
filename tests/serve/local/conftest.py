"""A data folder for the servers that these tests start and kill, and processes that own them."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Owner = Callable[[str], tuple[subprocess.Popen[str], int]]


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """One folder for the tests of a module, since making a cluster takes a second."""
    folder = Path(tempfile.mkdtemp(prefix="sfumato-local-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def owner() -> Iterator[Owner]:
    """Starts another Python that runs `script`, prints the pid of its server, and waits."""
    owners: list[subprocess.Popen[str]] = []

    def start(script: str) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-c", f"{script}\nprint(server.pid, flush=True)\ninput()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        owners.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    yield start
    for process in owners:
        process.kill()
        process.communicate()
