"""Where a server's socket lies: short enough for the kernel, private to its owner."""

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from serve.local.account import Account
from serve.local.errors import FolderUnreachable

# sockaddr_un holds 104 bytes on macOS and 108 on Linux; `.s.PGSQL.5432.lock` takes 19 of them.
LONGEST_FOLDER_BYTES = 80


def socket_folder(name: str, data_dir: Path, longest: int = LONGEST_FOLDER_BYTES) -> Path:
    """The folder for the sockets of server `name`: in the data folder, or short under /tmp.

    The short one is named after the data folder, so that it stays the same over restarts.
    Sockets hold no data: losing the folder costs a restart.
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
    """Makes the folder, owned by the account and closed to others.

    Raises:
        FolderUnreachable: the name is taken by somebody else, as anyone may do under /tmp.
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
