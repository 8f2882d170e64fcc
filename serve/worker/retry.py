"""How long a worker waits before it tries again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from random import uniform
from typing import Any, ParamSpec, TypeVar

import structlog

from serve.database import DatabaseUnavailable

log = structlog.get_logger(__name__)

RETRY_S = 0.5
"""Until Postgres is tried again."""
_LONGEST_PAUSES = 10  # times the first

P = ParamSpec("P")
T = TypeVar("T")


def pause(attempt: int, first_s: float = 1.0) -> float:
    """Seconds to wait after so many tries: twice as long each time, half of it by chance.

    Ten times ``first_s`` at most.
    """
    longest_s = first_s * min(2.0 ** min(attempt - 1, 10), _LONGEST_PAUSES)
    return uniform(longest_s / 2, longest_s)  # noqa: S311 - to spread, not to hide


def until_connected(method: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Have the method repeat itself until Postgres answers; a repetition must do no harm.

    Not to be called within a round of a `Loop`, which must end.
    """

    @wraps(method)
    async def repeated(*args: P.args, **kwargs: P.kwargs) -> T:
        attempt = 1
        while True:
            try:
                return await method(*args, **kwargs)
            except DatabaseUnavailable as error:
                if attempt == 1:  # every picture in hand repeats its call
                    log.warning("worker.database_unavailable", error=str(error))
                await asyncio.sleep(pause(attempt, RETRY_S))
                attempt += 1

    return repeated
