"""What is counted of storage's operations."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from serve.observability.registry import Registry
from serve.storage import ObjectExists, ObjectMissing, StorageUnavailable, open_storage
from tests.serve.observability.recorded import recorded

COUNT = "sfumato_storage_operations_total"


async def test_each_operation_is_counted_with_what_came_of_it(tmp_path: Path) -> None:
    registry = Registry()
    storage = open_storage((tmp_path / "store").as_uri(), registry)
    await storage.put("a/b", b"1", "text/plain")
    await storage.put("a/b", b"1", "text/plain")
    with pytest.raises(ObjectExists):
        await storage.put("a/b", b"2", "text/plain")
    await storage.look("a/b")
    await storage.get_range("a/b", 0, 1)
    with pytest.raises(ObjectMissing):
        await storage.get("a/c")
    assert [len(page) async for page in storage.list()] == [1]
    await storage.delete(["a/b", "a/c"])
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(StorageUnavailable):
        await storage.get("a/b")

    found = {
        (operation, result): recorded(registry, COUNT, operation=operation, result=result)
        for operation, result in [
            ("put", "ok"),
            ("put", "exists"),
            ("get", "missing"),
            ("get", "unavailable"),
            ("look", "ok"),
            ("get_range", "ok"),
            ("delete", "ok"),
        ]
    }
    assert found == {
        ("put", "ok"): 2,
        ("put", "exists"): 1,
        ("get", "missing"): 1,
        ("get", "unavailable"): 1,
        ("look", "ok"): 1,
        ("get_range", "ok"): 1,
        ("delete", "ok"): 1,
    }
    assert recorded(registry, COUNT, operation="get", result="ok") == 2, "a put compares"
    assert recorded(registry, COUNT, operation="list", result="ok") >= 1
    seconds = "sfumato_storage_operation_seconds_count"
    assert recorded(registry, seconds) == recorded(registry, COUNT)
