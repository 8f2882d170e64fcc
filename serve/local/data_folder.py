"""A data folder: one owner at a time, small files that are whole, and folders for sockets."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from serve.local.account import Account
from serve.local.errors import AlreadyRunning, FolderUnreachable, using_folder

# sockaddr_un holds 104 bytes on macOS and 108 on Linux; `.s.PGSQL.5432.lock` takes 19 of them.
LONGEST_FOLDER_BYTES = 80


class FolderLock:
    """The lock `data_dir/run/NAME.lock`, which the kernel frees when its owner ends, however.

    It distinguishes two cases that a pid file cannot. If the lock is taken, somebody runs the
    server. If it is free and the server is alive, the server's owner was killed.
    """

    def __init__(self, name: str, data_dir: Path) -> None:
        self.name = name
        self.data_dir = data_dir
        self.path = data_dir / "run" / f"{name}.lock"
        self._descriptor: int | None = None

    def claim(self) -> None:
        """Take the lock.

        Raises:
            AlreadyRunning: another process has it.
            FolderUnreachable: this process may not write in the data folder.
        """
        with using_folder(self.data_dir):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def write_atomically(path: Path, text: str) -> None:
    """Replace the file by one that its owner alone may read.

    A crash or a power cut leaves either the old file or the new one, never a part.

    Raises:
        OSError: the folder cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name, too, survives a power cut
    finally:
        os.close(folder)


def socket_folder(name: str, data_dir: Path, longest: int = LONGEST_FOLDER_BYTES) -> Path:
    """The folder for the sockets of server `name`: in the data folder, or in /tmp if too long.

    The one in /tmp is named after the data folder, so that it is the same after a restart.
    Sockets hold no data: if the folder is lost, a restart is enough.
    """
    folder = data_dir / "run" / name
    if len(os.fsencode(folder)) <= longest:
        return folder
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"sfumato-{digest}-{name}"
    if len(os.fsencode(short)) <= longest:
        return short
    return Path("/tmp") / short.name  # noqa: S108 TMPDIR itself is too long, as on macOS


def make_private(folder: Path, account: Account) -> None:
    """Make the folder, owned by the account and closed to others.

    Raises:
        FolderUnreachable: somebody else made the folder, as anyone may under /tmp.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        status = folder.lstat()
        ours = status.st_uid in {os.geteuid(), account.uid}
        # Root may meet the folders of a former run by an ordinary user; under /tmp it trusts none.
        shared = folder.parent.stat().st_mode & stat.S_IWOTH
        if not stat.S_ISDIR(status.st_mode) or not (ours or (os.geteuid() == 0 and not shared)):
            raise FolderUnreachable(
                f"{folder} belongs to user id {status.st_uid} or is no folder: remove it, or set "
                "SFUMATO_DATA_DIR to a folder with a shorter path."
            ) from None
    account.give(folder)
