"""What the local servers have in common: how their owner starts and stops them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from serve.local.errors import FolderUnreachable
from serve.local.process import ServerProcess


class LocalServer(ABC):
    """One server under a data folder, reachable only through a private socket.

    Its log is `data_dir/logs/NAME.log`. Blocking; start it from the main thread, and it also ends
    by itself when this process is killed (Linux).
    """

    def __init__(self, data_dir: Path, process: ServerProcess) -> None:
        """Names the folder; touches nothing."""
        self._data_dir = data_dir
        self._process = process

    @property
    @abstractmethod
    def url(self) -> str:
        """The address, for its clients."""

    @abstractmethod
    def _start(self) -> None:
        """Makes what the server needs, and starts it; called with the lock held."""

    @property
    def running(self) -> bool:
        """Whether the server that this object started is alive."""
        return self._process.running

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid

    def start(self) -> None:
        """Starts the server, making its files first where there are none.

        Raises:
            AlreadyRunning: another process, or this object, runs it in this folder.
            NotInstalled: the wheel is missing.
            FolderUnreachable: the server's account cannot use the folder.
            StartFailed: with the server's last words.
        """
        self._process.claim()
        try:
            self._start()
        except OSError as error:
            self.stop()
            raise FolderUnreachable.to_us(error, self._data_dir) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server, its connections too, and waits until it has."""
        self._process.end()
        self._process.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
