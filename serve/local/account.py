"""The account that a server runs as, and how that account reaches its files."""

import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.local.errors import FolderUnreachable

NOBODY = 65534
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2


@dataclass(frozen=True)
class Account:
    """The user and group that a server runs as; both are None if they are this process's own.

    Postgres refuses to run as root. If this process is root, Postgres runs as an unprivileged
    user, which may not be able to enter the data folder or the folder of the binaries: a checkout
    in /root (mode 0700) is the usual case. To move durable data to /tmp would lose it, and to open
    other people's folders (chmod o+x) would change what is not ours. So, if a folder is in the
    way, the process keeps one ambient Linux capability, to walk through folders and read.
    """

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def for_folder(cls, folder: Path) -> "Account":
        """The account for a server that owns `folder`, which need not exist yet.

        Raises:
            FolderUnreachable: the folder belongs to another user, and this process is not root.
        """
        owner = folder.stat() if folder.exists() else None
        if os.geteuid() != 0:
            if owner is not None and owner.st_uid != os.geteuid():
                raise FolderUnreachable(
                    f"{folder} belongs to user id {owner.st_uid}, and this is user id "
                    f"{os.geteuid()}: run as that user, change the folder's owner, or set "
                    "SFUMATO_DATA_DIR to another folder."
                )
            return cls()
        if owner is not None and owner.st_uid != 0:
            return cls(owner.st_uid, owner.st_gid)
        return cls(NOBODY, NOBODY)

    def give(self, folder: Path) -> None:
        """Make `folder`, if it is missing, and make it private to this account."""
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        if self.uid is not None and self.gid is not None:
            os.chown(folder, self.uid, self.gid)

    def arguments(self, paths: Sequence[Path]) -> list[str]:
        """The options of `launch.py` by which a process becomes this account and reaches `paths`.

        Raises:
            FolderUnreachable: the account may not enter a parent folder, and this process has no
                capability to give it.
        """
        if self.uid is None:
            return []
        options = [f"--uid={self.uid}", f"--gid={self.gid}"]
        barred = next(filter(None, map(self._barrier, paths)), None)
        if barred is None:
            return options
        for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
            if permitted_capabilities() >> capability & 1:
                return [*options, f"--capability={capability}"]
        raise FolderUnreachable(
            f"Postgres cannot run as root, and the unprivileged user {self.uid} cannot enter "
            f"{barred}: run Sfumato as an ordinary user, allow it by `chmod o+x {barred}`, or "
            "install it and set SFUMATO_DATA_DIR where every user may enter."
        )

    def _barrier(self, path: Path) -> Path | None:
        """The first folder on the way to `path` that this account may not walk through."""
        for folder in reversed(path.resolve().parents):
            status = folder.stat()
            may_enter = stat.S_IXOTH
            if status.st_uid == self.uid:
                may_enter = stat.S_IXUSR
            elif status.st_gid == self.gid:
                may_enter = stat.S_IXGRP
            if not status.st_mode & may_enter:
                return folder
        return None


def permitted_capabilities() -> int:
    """The Linux capabilities that this process may give, as a bit set; 0 on other systems."""
    if sys.platform != "linux":
        return 0
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapPrm:"):
            return int(line.split()[1], 16)
    return 0
