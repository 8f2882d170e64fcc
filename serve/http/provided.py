"""What the app was created with, as parameters of routes: ``jobs: Provided[Jobs]``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import Depends
from starlette.requests import HTTPConnection

T = TypeVar("T")


def provided(connection: HTTPConnection, kind: type[T]) -> T:
    """The one instance of the kind that ``app.state.provided`` has, by its type."""
    instance: T = connection.app.state.provided[kind]
    return instance


def _looking_up(kind: type[T]) -> Callable[[HTTPConnection], Coroutine[Any, Any, T]]:
    async def look_up(connection: HTTPConnection) -> T:  # FastAPI calls others in a thread
        return provided(connection, kind)

    return look_up


if TYPE_CHECKING:
    Provided = Annotated[T, None]
else:

    class Provided:
        """A route's parameter, found by its type; no request can set it."""

        def __class_getitem__(cls, kind: type[T]) -> object:
            return Annotated[kind, Depends(_looking_up(kind))]
