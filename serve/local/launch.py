"""Becomes a server: the last step before exec, run as `python -I -S launch.py … -- command`.

A process of its own rather than `preexec_fn`, because Python code between fork and exec may
deadlock where the parent has threads, and an application that serves always has threads. So this
file imports the standard library only and nothing of this project.
"""

import argparse
import ctypes
import os
import struct
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522


def main() -> None:
    """Drops to the wanted account, ties itself to the parent's life, and becomes the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--uid", type=int, help="account to become; only root can")
    parser.add_argument("--gid", type=int)
    parser.add_argument("--capability", type=int, help="the one capability to keep")
    parser.add_argument("--parent", type=int, help="pid whose death ends the command")
    parser.add_argument("--death-signal", type=int, default=0)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if options.uid is not None:
        become(options.uid, options.gid, options.capability)
    if options.parent is not None:
        # After the change of account, which would reset it.
        die_with(options.parent, options.death_signal)
    os.execv(options.command[0], options.command)  # noqa: S606 the whole purpose


def become(uid: int, gid: int, capability: int | None) -> None:
    """Changes the account of this process for good, keeping at most one capability.

    Raises:
        OSError: the kernel refuses.
    """
    if capability is not None:
        prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if capability is not None:
        # Ambient, so that it outlives exec, and is handed on to what initdb starts.
        bit = 1 << capability
        header = struct.pack("Ii", LINUX_CAPABILITY_VERSION_3, 0)
        sets = struct.pack("6I", bit, bit, bit, 0, 0, 0)
        if ctypes.CDLL(None, use_errno=True).capset(header, sets):
            raise OSError(ctypes.get_errno(), "capset")
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def die_with(parent: int, death_signal: int) -> None:
    """Asks the kernel to signal this process when the parent's thread ends (Linux only)."""
    if sys.platform != "linux":
        return
    prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:  # it ended before we asked
        sys.exit("the parent has gone")


def prctl(*arguments: int) -> None:
    """Linux's prctl, raising instead of returning -1."""
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0, 0)[:5]]
    if ctypes.CDLL(None, use_errno=True).prctl(*padded) < 0:
        raise OSError(ctypes.get_errno(), f"prctl{arguments}")


if __name__ == "__main__":
    main()
