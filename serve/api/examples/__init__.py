"""What the OpenAPI document shows of each operation: one file a room, apart from the routes.

A room's file holds ``EXAMPLES``, keyed by operation id, and ``TAGS``, what its tags mean. Files
are found by themselves; tests hold every example against its schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from serve.api.examples.example import Example


def examples() -> dict[str, Example]:
    """Every operation's, by operation id."""
    return {name: shown for room in _rooms() for name, shown in room.EXAMPLES.items()}


def tags() -> dict[str, str]:
    """What each tag means."""
    return {name: meaning for room in _rooms() for name, meaning in room.TAGS.items()}


def _rooms() -> Iterator[ModuleType]:
    for found in iter_modules(__path__):
        module = import_module(f"{__name__}.{found.name}")
        if hasattr(module, "EXAMPLES"):
            yield module
