"""Several models in one replica."""

from __future__ import annotations

import gc
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import torch

from pipelines.diffusion.errors import RequestError
from pipelines.diffusion.families.base import Family

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that can be loaded: how, and the bytes that its weights will take."""

    load: Callable[[], Family]
    nbytes: int


class ModelPool:
    """Models by name, loaded when first asked for, beside the running step loop.

    When their weights would exceed ``max_bytes`` the least recently used one that has no request
    leaves first. A model that is larger than ``max_bytes`` is loaded alone. For one thread, but
    for the loading, which has its own.
    """

    def __init__(self, sources: Mapping[str, ModelSource], max_bytes: int | None = None) -> None:
        """The first of ``sources`` is the default; without ``max_bytes`` none ever leaves."""
        self._sources = dict(sources)
        self._max_bytes = max_bytes
        self._families: OrderedDict[str, Family] = OrderedDict()  # the least recently used first
        self._users: dict[str, int] = dict.fromkeys(sources, 0)
        self._loading: tuple[str, Future[Family]] | None = None  # one at a time
        self._failures: dict[str, BaseException] = {}
        self._full = False
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="model-loader")

    @classmethod
    def of(cls, family: Family, name: str = "default") -> ModelPool:
        """One model, loaded already."""
        pool = cls({name: ModelSource(lambda: family, 0)})
        pool._families[name] = family
        return pool

    @property
    def default(self) -> str:
        return next(iter(self._sources))

    @property
    def names(self) -> list[str]:
        """All, loaded or not."""
        return list(self._sources)

    @property
    def loaded(self) -> list[str]:
        """The least recently used first."""
        return list(self._families)

    @property
    def full(self) -> bool:
        """Whether the last ``acquire`` found no room, because all that is loaded is in use."""
        return self._full

    def acquire(self, name: str) -> Family | None:
        """A model to use until ``release``; None while it loads or waits for room.

        Raises RequestError for a name that is not here, and once whatever its loading raised.
        """
        if name not in self._sources:
            raise RequestError(
                f"There is no model {name!r} here; choose one of {', '.join(self._sources)}."
            )
        self._collect()
        self._full = False
        if name in self._failures:
            raise self._failures.pop(name)
        if name in self._families:
            self._families.move_to_end(name)
            self._users[name] += 1
            return self._families[name]
        if self._loading is None:
            self._full = not self._make_room(self._sources[name].nbytes)
            if not self._full:
                logger.info("Loading model %s.", name)
                self._loading = name, self._loader.submit(self._sources[name].load)
        return None

    def release(self, name: str) -> None:
        """One request fewer."""
        self._users[name] -= 1

    def load(self, name: str) -> Family:
        """Waits for a model. RuntimeError if all that is loaded is in use and leaves no room."""
        while (family := self.acquire(name)) is None:
            if self._full:
                raise RuntimeError(f"There is no room for model {name!r}.")
            self.wait(timeout=None)
        self.release(name)
        return family

    def wait(self, timeout: float | None) -> None:
        """Until the model that loads is here, or ``timeout`` seconds are over."""
        if self._loading is not None:
            wait([self._loading[1]], timeout)

    def close(self) -> None:
        """Waits for the model that loads, and forgets all."""
        self._loader.shutdown()
        self._families.clear()

    def _collect(self) -> None:
        """Takes in what has loaded."""
        if self._loading is None or not self._loading[1].done():
            return
        name, future = self._loading
        self._loading = None
        error = future.exception()
        if error is None:
            self._families[name] = future.result()
        else:
            logger.error("Model %s could not be loaded.", name, exc_info=error)
            self._failures[name] = error

    def _make_room(self, nbytes: int) -> bool:
        """Lets idle models leave until so many bytes are free; False if all others are in use."""
        if self._max_bytes is None:
            return True
        idle = [name for name in self._families if not self._users[name]]
        while self._families and self._held + nbytes > self._max_bytes:
            if not idle:
                return False
            logger.info("Model %s leaves to make room.", idle[0])
            del self._families[idle.pop(0)]
            gc.collect()  # modules with hooks or captured graphs refer to themselves
            torch.cuda.empty_cache()  # nothing where there is no CUDA
        return True

    @property
    def _held(self) -> int:
        return sum(self._sources[name].nbytes for name in self._families)
