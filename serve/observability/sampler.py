"""What a process looks at every few seconds, because nothing tells when it changes."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

EVERY_S = 2.0
_STOP_S = 5.0


class Sampler:
    """Calls each ``sample`` in a thread of its own: asking a device must not hold up an event loop.

    One that raises is logged, and asked again the next time.
    """

    def __init__(self, *samples: Callable[[], None]) -> None:
        self._samples = samples
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        """Once."""
        self._thread.start()

    def stop(self) -> None:
        """After a last round, if it has begun."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_S)

    def sample(self) -> None:
        """One round, in the caller's thread."""
        with self._lock:
            for sample in self._samples:
                try:
                    sample()
                except Exception:
                    log.exception("sampler.failed")

    def _run(self) -> None:
        while True:
            stopped = self._stopping.wait(EVERY_S)
            self.sample()
            if stopped:
                return
