"""A standby by streaming replication, which takes over without having lost a COMMIT."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from serve.local.account import Account
from serve.local.postgres import NAME, STATE_LINE, LocalPostgres, find_binaries


class Standby(LocalPostgres):
    """Follows another Postgres of this machine until it is promoted."""

    def __init__(self, data_dir: Path, primary: LocalPostgres) -> None:
        """Names the folder, which must be new; touches nothing."""
        super().__init__(data_dir)
        self._primary_sockets = primary.sockets

    async def follow(self) -> None:
        """Copy the primary, start, and from then on have each COMMIT wait for this standby.

        The primary answers meanwhile. Call it in the main thread: the server ends with it.
        """
        await run(
            "pg_basebackup",
            *("-h", str(self._primary_sockets), "-U", NAME, "-D", str(self._cluster)),
            *("--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
        )
        account = Account.for_folder(self._cluster)
        if account.uid is not None and account.gid is not None:
            for path in (self._cluster, *self._cluster.rglob("*")):
                os.chown(path, account.uid, account.gid)
        self.start()
        await psql(
            self._primary_sockets,
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
            "SELECT pg_reload_conf()",
        )
        async with asyncio.timeout(30):
            while "sync" not in await psql(
                self._primary_sockets, "SELECT sync_state FROM pg_stat_replication"
            ):
                await asyncio.sleep(0.1)

    async def promote(self) -> None:
        """Take writes from now on; the primary must have ended."""
        await psql(self.sockets, "SELECT pg_promote()")

    def _ready(self) -> bool:
        try:
            lines = (self._cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > STATE_LINE and lines[STATE_LINE].strip() in ("ready", "standby")


async def psql(sockets: Path, *statements: str) -> str:
    """What the statements answer, each in a transaction of its own, past every proxy."""
    commands = [word for statement in statements for word in ("-c", statement)]
    where = ("-h", str(sockets), "-U", NAME, "-d", NAME)
    return await run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *where, *commands)


async def run(program: str, *arguments: str) -> str:
    """The output of one of Postgres' programs."""
    process = await asyncio.create_subprocess_exec(
        str(find_binaries() / program),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{program} failed: {errors.decode(errors='replace')}")
    return output.decode()
