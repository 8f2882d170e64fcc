"""The engine's own thread, and the door to it for every other."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from pipelines.diffusion.batching.cost import Profile
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.errors import EngineStoppedError
from pipelines.diffusion.pool import ModelSource
from pipelines.diffusion.request import EngineStats, Failure, Output, Progress, Request, Step

_PATIENCE = 10  # times what a step is predicted to take, or the longest so far
_FIRST_PATIENCE = 600.0  # seconds, for what was never done before: it may compile
_PROFILE_SECONDS = 10.0
_IDLE_SECONDS = 0.5  # how long the loop sleeps without work, and so how often it ticks

logger = logging.getLogger(__name__)


class EngineRunner:
    """Runs a DiffusionEngine in a thread, its warm-up included: no other touches the device.

    Every method is safe from any thread.

    ``on_outputs`` is called from the engine's thread after each step that has any, and must
    return soon: the next step waits for it. After ``abort`` answered True no Result or Failure
    of that request is handed out.
    """

    def __init__(
        self,
        engine: DiffusionEngine,
        on_outputs: Callable[[list[Output]], None],
        niceness: int = 0,
    ) -> None:
        """The engine belongs to the runner from here on.

        ``niceness`` is added to that of its thread, and of those that torch computes with in it:
        on a CPU that it shares, whoever answers requests comes first. Linux only.
        """
        self._engine = engine
        self._on_outputs = on_outputs
        self._niceness = niceness
        self._wake = threading.Condition(threading.RLock())
        # Guarded by _wake:
        self._inbox: deque[tuple[Request, float]] = deque()
        """Each with when it came, by the engine's clock."""
        self._changes: deque[tuple[Mapping[str, ModelSource], Collection[str]]] = deque()
        self._aborts: deque[str] = deque()
        self._in_flight: dict[str, bool] = {}
        """Submitted, with no final output yet; whether it is in the background."""
        self._stopping = False
        self._draining = False
        self._stats = engine.stats()
        self._profiles = engine.profiles()
        self._profiled_at = engine.clock()
        self._ticks = 0
        self._idle = True  # nothing is left to tune
        self._tuning = False
        self._error: BaseException | None = None
        self._warm = threading.Event()
        self._thread = threading.Thread(target=self._run, name="diffusion-engine", daemon=True)

    def start(self) -> None:
        """Once. Requests are taken from now on, and drawn once the default model is warm."""
        self._thread.start()

    def wait_until_warm(self) -> None:
        """Until the default model has made its first picture; raises what kept it from that."""
        self._warm.wait()
        if self._error is not None:
            raise self._error

    @property
    def max_batch(self) -> int:
        return self._engine.max_batch

    @property
    def drawing(self) -> int:
        """Requests of the foreground that still need steps, whether they have begun or not."""
        with self._wake:
            foreground = len(self._in_flight) - sum(self._in_flight.values())
            return foreground - self._stats.decoding

    @property
    def free_slots(self) -> int:
        """How many more requests would take part in the next step; 0 when it takes none."""
        with self._wake:
            return 0 if self._closed else max(0, self._engine.max_batch - self.drawing)

    @property
    def ticks(self) -> int:
        """Grows by one with each turn of the loop, idle turns too."""
        return self._ticks

    @property
    def patience(self) -> float:
        """Seconds without a tick after which the loop hangs, as far as one can tell.

        A large model on a CPU takes minutes for what a GPU does in milliseconds, so the measure is
        what the present step is predicted to take, and the longest so far. A step of a kind that
        was never made, and one during which something compiles or loads, has ten minutes at least.
        """
        engine = self._engine
        patience = _PATIENCE * max(_IDLE_SECONDS, engine.longest_step, engine.expected_step)
        if self._tuning or engine.first_of_kind:
            return max(_FIRST_PATIENCE, patience)
        return patience

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def error(self) -> BaseException | None:
        """What killed the loop; a dead loop takes no more requests."""
        return self._error

    @property
    def failed(self) -> bool:
        return self._error is not None

    def stats(self) -> EngineStats:
        """As of the last step; ``waiting`` counts what was submitted since."""
        with self._wake:
            return replace(self._stats, waiting=self._stats.waiting + len(self._inbox))

    def profiles(self) -> dict[str, Profile]:
        """What pictures cost, by model: of those that a step was made with. As of some turn ago."""
        with self._wake:
            return self._profiles

    def take_steps(self) -> list[Step]:
        """As `DiffusionEngine.take_steps`."""
        return self._engine.take_steps()

    def submit(self, request: Request) -> None:
        """Raises EngineStoppedError, or ValueError for an identifier that is in flight."""
        with self._wake:
            if self._closed:
                raise EngineStoppedError("The engine takes no more requests: it is stopping.")
            if request.id in self._in_flight:
                raise ValueError(f"Request {request.id!r} is in flight already.")
            self._in_flight[request.id] = request.background
            self._inbox.append((request, self._engine.clock()))
            self._wake.notify()

    def change_models(self, add: Mapping[str, ModelSource], remove: Collection[str]) -> None:
        """As `DiffusionEngine.change_models`, soon, by the engine's thread."""
        with self._wake:
            self._changes.append((add, remove))
            self._wake.notify()

    def abort(self, request_id: str) -> bool:
        """Takes the request out before the next step; False if it is done or was never here."""
        with self._wake:
            if request_id not in self._in_flight:
                return False
            del self._in_flight[request_id]
            arrived = [each for each in self._inbox if each[0].id != request_id]
            if len(arrived) == len(self._inbox):
                self._aborts.append(request_id)
            self._inbox = deque(arrived)
            self._wake.notify()
            return True

    def stop(self, drain: bool, timeout: float | None = None) -> list[str]:
        """Ends the thread, at the latest after ``timeout`` seconds and the step then being made.

        With ``drain`` what is in flight is finished first. Returns the identifiers that were not
        finished, for another engine to take; nothing more comes of them here.
        """
        with self._wake:
            self._stopping, self._draining = True, drain
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        with self._wake:
            self._draining = False
            unfinished = sorted(self._in_flight)
            self._in_flight.clear()
            return unfinished

    @property
    def _closed(self) -> bool:
        return self._stopping or self._error is not None

    def _run(self) -> None:
        if self._niceness and sys.platform == "linux":
            os.nice(self._niceness)  # there it is a thread's own, and what it starts inherits it
        try:
            self._engine.warm_up()
            with self._wake:
                self._profiles = self._engine.profiles()
            self._warm.set()
            while self._take_messages():
                if self._engine.has_work:
                    self._hand_out(self._engine.step())
                    self._idle = False
                else:
                    self._tune()
                self._ticks += 1
        except Exception as error:
            logger.exception("The engine's loop died.")
            self._die(error)
        finally:
            self._warm.set()
            self._engine.close()

    def _tune(self) -> None:
        self._tuning = True
        self._idle = not self._engine.tune()
        self._tuning = False

    def _take_messages(self) -> bool:
        """Waits for work, and moves what came into the engine; False when the loop should end."""
        with self._wake:
            if self._idle and not (
                self._engine.has_work
                or self._inbox
                or self._aborts
                or self._changes
                or self._stopping
            ):
                self._wake.wait(_IDLE_SECONDS)
            # Aborts first: one who was aborted may have been submitted again.
            while self._aborts:
                self._engine.abort(self._aborts.popleft())
            while self._changes:
                self._engine.change_models(*self._changes.popleft())
            while self._inbox:
                self._engine.add(*self._inbox.popleft())
            self._stats = self._engine.stats()
            if self._engine.clock() - self._profiled_at > _PROFILE_SECONDS:
                self._profiles = self._engine.profiles()
                self._profiled_at = self._engine.clock()
            return not self._stopping or (self._draining and self._engine.has_work)

    def _hand_out(self, outputs: list[Output]) -> None:
        with self._wake:
            self._stats = self._engine.stats()
            awaited = self._in_flight.keys() - set(self._aborts)
            wanted = [output for output in outputs if output.request_id in awaited]
            for output in wanted:
                if not isinstance(output, Progress):
                    self._in_flight.pop(output.request_id, None)
        if wanted:
            self._on_outputs(wanted)

    def _die(self, error: Exception) -> None:
        with self._wake:
            self._error = error
            lost = sorted(self._in_flight)
            self._in_flight.clear()
        self._on_outputs([Failure(id_, f"The engine died: {error!r}") for id_ in lost])
