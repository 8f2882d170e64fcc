"""One owner at a time for a thing in a data folder."""

import fcntl
import os
from pathlib import Path

from serve.local.errors import AlreadyRunning, FolderUnreachable


class FolderLock:
    """A file lock that is held for as long as its owner lives, however that ends.

    It tells two cases apart that a pid file can't: taken, somebody runs the thing; free while the
    thing is alive, its owner was killed.
    """

    def __init__(self, name: str, data_dir: Path) -> None:
        """Names the lock, `data_dir/run/NAME.lock`; touches nothing."""
        self.name = name
        self.data_dir = data_dir
        self.path = data_dir / "run" / f"{name}.lock"
        self._descriptor: int | None = None

    def claim(self) -> None:
        """Takes the lock.

        Raises:
            AlreadyRunning: somebody has it.
            FolderUnreachable: we may not write in the data folder.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FolderUnreachable.to_us(error, self.data_dir) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 32).decode(errors="replace")
            os.close(lock)
            raise AlreadyRunning(
                f"The local {self.name} of {self.data_dir} is already run by process "
                f"{owner or '(unknown)'}: stop that process, or set SFUMATO_DATA_DIR to another "
                "folder.",
                pid=int(owner) if owner.isdecimal() else None,
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        self._descriptor = lock

    def release(self) -> None:
        """Gives the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
