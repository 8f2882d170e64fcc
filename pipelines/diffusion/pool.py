"""Several models in one replica."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import torch

from pipelines.diffusion.errors import ModelLoadError, RequestError
from pipelines.diffusion.families.model import Model
from pipelines.diffusion.speed.device_memory import release_memory

logger = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""How long requests for a model that could not be loaded are told so, until it is tried again."""

Placing = Generator[None, None, Model]
"""Puts a model that was read on its device, a slice at a time; returns it."""

WarmUpSlices = Callable[[str, Model], Iterator[None]]
"""What else a model goes through before it is used, a slice at a time."""


def _nothing(_name: str, _model: Model) -> Iterator[None]:
    return iter(())


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that can be loaded, and the bytes that its weights will take.

    ``read`` takes it from the disk into plain memory, in a thread of its own: it computes nothing.
    """

    read: Callable[[], Placing]
    nbytes: int


@dataclass(slots=True)
class _Loading:
    name: str
    reading: Future[Placing]
    slices: Placing | None = None  # once it was read
    evicted: bool = False  # whether idle models have left for it, as memory ran out


class ModelPool:
    """Models by name, loaded when first asked for.

    One thread of its own reads weights; all else is for the caller's thread, slice by slice.
    When their weights would exceed ``max_bytes`` the least recently used one that has no request
    leaves first. A model that is larger than ``max_bytes`` is loaded alone.
    """

    def __init__(
        self,
        sources: Mapping[str, ModelSource],
        max_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The first of ``sources`` is the default; without ``max_bytes`` none ever leaves."""
        self._sources = dict(sources)
        self._nbytes = {name: source.nbytes for name, source in sources.items()}
        self._max_bytes = max_bytes
        self._clock = clock
        self._models: OrderedDict[str, Model] = OrderedDict()  # the least recently used first
        self._users: dict[str, int] = dict.fromkeys(sources, 0)
        self._loading: _Loading | None = None  # one at a time
        self._failures: dict[str, tuple[Exception, float]] = {}  # and until when they are told
        self._full = False
        # With one OpenMP thread: a second team would halve the engine's speed on a CPU.
        self._reader = ThreadPoolExecutor(1, "model-reader", torch.set_num_threads, (1,))

    @classmethod
    def of(cls, model: Model, name: str = "default") -> ModelPool:
        """One model, loaded already."""
        pool = cls({name: ModelSource(lambda: placed(model), 0)})
        pool._models[name] = model
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
        return list(self._models)

    @property
    def loading(self) -> bool:
        """Whether a model is on its way."""
        return self._loading is not None

    @property
    def full(self) -> bool:
        """Whether the last ``acquire`` found no room, because all that is loaded is in use."""
        return self._full

    def acquire(self, name: str, evict: bool = True) -> Model | None:
        """A model to use until ``release``; None while it loads or waits for room.

        Without ``evict`` no other is unloaded for it.

        Raises RequestError for a name that is not here, and for a minute whatever its loading
        raised.
        """
        if name not in self._sources:
            raise RequestError(
                f"There is no model {name!r} here; choose one of {', '.join(self._sources)}."
            )
        self._full = False
        self._raise_failure(name)
        if name in self._models:
            self._models.move_to_end(name)
            self._users[name] += 1
            return self._models[name]
        if self._loading is None:
            has_room = self._make_room(self._sources[name].nbytes, evict)
            self._full = evict and not has_room
            if has_room:
                logger.info("Loading model %s.", name)
                self._loading = _Loading(name, self._read(name))
        return None

    def release(self, name: str) -> None:
        """One request fewer."""
        self._users[name] -= 1
        self._evict_removed(name)

    def add(self, name: str, source: ModelSource) -> None:
        """One more; it is loaded when first asked for."""
        self._sources[name] = source
        self._nbytes[name] = source.nbytes
        self._users.setdefault(name, 0)

    def remove(self, name: str) -> None:
        """One fewer: no request gets it any more, and it leaves once none uses it."""
        self._sources.pop(name, None)
        self._failures.pop(name, None)
        self._evict_removed(name)

    def advance(self, warm_up: WarmUpSlices) -> None:
        """The next slice of the model that loads, once it is read."""
        loading = self._loading
        if loading is None or not loading.reading.done():
            return
        try:
            if loading.slices is None:
                loading.slices = self._arrive(loading, warm_up)
            next(loading.slices)
        except StopIteration as end:
            self._models[loading.name] = end.value
            self._loading = None
            self._evict_removed(loading.name)
        except torch.AcceleratorError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, its requests are told
            self._give_up(loading, error)

    def load(self, name: str, warm_up: WarmUpSlices = _nothing) -> Model:
        """Waits for a model. RuntimeError if all that is loaded is in use and leaves no room."""
        while (model := self.acquire(name)) is None:
            if self._full:
                raise RuntimeError(f"There is no room for model {name!r}.")
            self.wait(timeout=None)
            self.advance(warm_up)
        self.release(name)
        return model

    def wait(self, timeout: float | None) -> None:
        """Until the model that loads is read, or ``timeout`` seconds are over."""
        if self._loading is not None:
            wait([self._loading.reading], timeout)

    def close(self) -> None:
        """Forgets all; what is read meanwhile comes to nothing."""
        self._reader.shutdown(wait=False, cancel_futures=True)
        self._models.clear()

    def _read(self, name: str) -> Future[Placing]:
        torch.get_num_threads()  # so that this thread's number is settled before the reader's
        return self._reader.submit(self._sources[name].read)

    @staticmethod
    def _arrive(loading: _Loading, warm_up: WarmUpSlices) -> Placing:
        model = yield from loading.reading.result()
        yield from warm_up(loading.name, model)
        return model

    def _give_up(self, loading: _Loading, error: Exception) -> None:
        """Where memory ran out it is tried once more, without the models that are idle."""
        loading.slices, self._loading = None, None
        if isinstance(error, torch.OutOfMemoryError) and self._idle and not loading.evicted:
            for name in self._idle:
                self._evict(name)
            self._loading = _Loading(loading.name, self._read(loading.name), evicted=True)
            return
        logger.error("Model %s could not be loaded.", loading.name, exc_info=error)
        if isinstance(error, torch.OutOfMemoryError):
            error = ModelLoadError(
                f"The device has too little memory for model {loading.name!r}; load fewer models at"
                " once, or this one in a smaller dtype."
            )
        error = error.with_traceback(None)  # which holds what was loaded
        self._failures[loading.name] = error, self._clock() + RETRY_SECONDS

    def _raise_failure(self, name: str) -> None:
        if name not in self._failures:
            return
        error, until = self._failures[name]
        if self._clock() < until:
            raise error.with_traceback(None)
        del self._failures[name]

    def _make_room(self, nbytes: int, evict: bool) -> bool:
        """Lets idle models leave until so many bytes are free; False if none may."""
        if self._max_bytes is None:
            return True
        while self._models and self._held + nbytes > self._max_bytes:
            if not (evict and self._idle):
                return False
            self._evict(self._idle[0])
        return True

    def _evict_removed(self, name: str) -> None:
        if name in self._models and name not in self._sources and not self._users[name]:
            self._evict(name)

    def _evict(self, name: str) -> None:
        logger.info("Model %s is unloaded.", name)
        del self._models[name]
        release_memory()

    @property
    def _idle(self) -> list[str]:
        """The least recently used first."""
        return [name for name in self._models if not self._users[name]]

    @property
    def _held(self) -> int:
        return sum(self._nbytes[name] for name in self._models)


def placed(model: Model) -> Placing:
    """One that is on its device already."""
    yield
    return model
