"""Background loops: restarted after every error, and checked for rounds that never end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import ClassVar

import structlog

from serve.errors import ServiceError

log = structlog.get_logger(__name__)

STUCK_AFTER_S = 120.0
"""Far above the longest round that time-outs allow (docs/decisions/0036-one-database-policy.md)."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 5.0

RoundDone = Callable[[], None]
"""Called by a loop after each completed round."""


class LoopStuck(ServiceError):
    """A background loop neither completes its round nor fails; only a new process helps."""

    status: ClassVar[int] = 503
    code: ClassVar[str] = "loop_stuck"
    title: ClassVar[str] = "A background loop is stuck"
    example = "No round has ended for too long in: courier (184 s)."


def ignore_round() -> None:
    """A `RoundDone` for a loop that nobody supervises."""


class Loop:
    """A task that runs until it returns, is stopped, or raises what is fatal.

    Any other error is logged, and the loop begins again after a pause: half a second, twice as
    long with each failure in a row, five seconds at most. Cancellation passes through.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[RoundDone], Awaitable[None]],
        *,
        stuck_after_s: float | None = STUCK_AFTER_S,
        fatal: type[Exception] | tuple[type[Exception], ...] = (),
        expected: tuple[type[Exception], ...] = (ServiceError,),
    ) -> None:
        """Starts at once.

        A round may take ``stuck_after_s``; None is for rounds without bound. ``expected`` errors
        are logged in a line, all others with their traceback.
        """
        self.name = name
        self._run = run
        self._stuck_after_s = stuck_after_s
        self._fatal = fatal
        self._expected = expected
        self._turned_at = self._failed_at = monotonic()
        self._pause_s = _FIRST_PAUSE_S
        self._last_error = ""
        self._told_stuck = False
        self.task = asyncio.create_task(self._restart(), name=name)

    @property
    def age_s(self) -> float:
        """Seconds since the last completed round, or since the start."""
        return monotonic() - self._turned_at

    @property
    def stuck(self) -> bool:
        """Whether its round has neither completed nor failed for too long.

        A round that fails does not count: if the database is away, every round of every replica
        fails, and a new replica would fail as well.
        """
        if self._stuck_after_s is None or self.task.done():
            return False
        return monotonic() - max(self._turned_at, self._failed_at) > self._stuck_after_s

    async def stop(self) -> None:
        """Cancel it, and wait until it has ended."""
        # redis-py swallows a cancellation that arrives while it connects: repeat it until it ends.
        while not self.task.done():
            self.task.cancel()
            await asyncio.wait({self.task}, timeout=0.1)

    def _turn(self) -> None:
        self._turned_at = monotonic()
        self._pause_s = _FIRST_PAUSE_S
        self._last_error = ""
        self._told_stuck = False

    def tell_stuck(self) -> None:
        """Log that it is stuck, once: health checks ask every second."""
        if not self._told_stuck:
            self._told_stuck = True
            log.critical("loop.stuck", loop=self.name, age_s=round(self.age_s, 1))

    async def _restart(self) -> None:
        while True:
            try:
                await self._run(self._turn)
            except self._fatal:
                raise
            except self._expected as error:
                log.warning("loop.failed", loop=self.name, error=str(error))
            except Exception as error:
                new = self._new(error)
                log.exception("loop.broken", loop=self.name, error=repr(error), exc_info=new)
            else:
                return
            self._failed_at = monotonic()
            pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    def _new(self, error: Exception) -> bool:
        """Whether the last round failed otherwise: a traceback is logged once."""
        last, self._last_error = self._last_error, repr(error)
        return last != self._last_error


def check(loops: Iterable[Loop]) -> None:
    """Raise if a loop is stuck.

    Raises:
        LoopStuck: the message names all that are.
    """
    stuck = [loop for loop in loops if loop.stuck]
    for loop in stuck:
        loop.tell_stuck()
    if stuck:
        names = ", ".join(f"{loop.name} ({loop.age_s:.0f} s)" for loop in stuck)
        raise LoopStuck(f"No round has ended for too long in: {names}.")
