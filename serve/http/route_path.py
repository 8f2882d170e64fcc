"""A request's path as the routes have it."""

from __future__ import annotations

from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """The path without ASGI's ``root_path``, which servers put before it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
