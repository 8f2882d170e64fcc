"""A real Valkey, started, killed and started again."""

import asyncio
import importlib.util
import os
import signal
from pathlib import Path

import pytest
from redis.asyncio import Redis, from_url

from serve.local.errors import AlreadyRunning, FolderUnreachable, NotInstalled
from serve.local.process import command_line, wait_until
from serve.local.valkey import LocalValkey
from tests.serve.local.conftest import Owner


async def test_a_message_reaches_a_subscriber(valkey_url: str) -> None:
    client: Redis = from_url(valkey_url)
    async with client, client.pubsub() as subscription:
        await subscription.subscribe("hints")
        await client.publish("hints", "wake up")
        async with asyncio.timeout(10):
            messages = [await anext(subscription.listen()) for _ in range(2)]
    assert [message["type"] for message in messages] == ["subscribe", "message"]
    assert messages[1]["data"] == b"wake up"


async def test_a_restart_forgets(data_dir: Path) -> None:
    server = LocalValkey(data_dir)
    for _ in range(2):
        server.start()
        async with from_url(server.url) as client:
            assert await client.dbsize() == 0
            await client.set("key", "value")
            assert await client.config_get("save", "appendonly") == {
                "save": "",
                "appendonly": "no",
            }
        server.stop()


async def test_it_recovers_from_kill_9(data_dir: Path) -> None:
    server = LocalValkey(data_dir)
    server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert wait_until(lambda: not server.running, seconds=5)
    server.stop()
    with server:
        async with from_url(server.url) as client:
            assert await client.ping()


def test_a_second_start_names_the_owner(data_dir: Path, owner: Owner) -> None:
    process, _pid = owner(script(data_dir, "server.start()"))
    with pytest.raises(AlreadyRunning, match=f"process {process.pid}"):
        LocalValkey(data_dir).start()


def test_an_orphan_is_ended_and_replaced(data_dir: Path, owner: Owner) -> None:
    side_thread = "import threading; t = threading.Thread(target=server.start); t.start(); t.join()"
    process, orphan = owner(script(data_dir, side_thread))
    process.kill()
    process.wait()
    assert "valkey-server" in command_line(orphan)
    with LocalValkey(data_dir) as server:
        assert command_line(orphan) == ""
        assert server.pid != orphan


def test_only_the_owner_may_enter_the_socket_folder(data_dir: Path) -> None:
    with LocalValkey(data_dir) as server:
        socket = Path(server.url.removeprefix("unix://"))
        assert socket.is_socket()
        assert socket.parent.stat().st_mode & 0o777 == 0o700


def test_a_missing_wheel_names_the_cure(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(NotInstalled, match="REDIS_URL"):
        LocalValkey(data_dir).start()


def test_a_data_folder_that_is_none_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FolderUnreachable, match="SFUMATO_DATA_DIR"):
        LocalValkey(tmp_path / "file").start()


def script(data_dir: Path, start: str) -> str:
    """Python that runs a `server` in the folder."""
    lines = [
        "from pathlib import Path",
        "from serve.local.valkey import LocalValkey",
        f"server = LocalValkey(Path({str(data_dir)!r}))",
        start,
    ]
    return "\n".join(lines)
