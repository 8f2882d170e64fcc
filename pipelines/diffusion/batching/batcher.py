"""Who takes the next denoising step. Free of torch: it knows identifiers, shapes and the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from itertools import count

from pipelines.diffusion.batching.limit import BatchLimit
from pipelines.diffusion.batching.slack import SOFT_DEADLINE, QueuedRequest
from pipelines.diffusion.batching.trial import Trial

_ROUNDING = 1e-9


class StepBatcher:
    """Forms one step batch after another out of the requests in its care.

    Requests whose tensors can share a forward pass have equal keys; they are a lane, and a step
    batch is drawn from one lane. All requests are ranked by slack (see ``slack.py``): the first
    says which lane goes, and the others of that lane follow by rank until the step is full. So a
    request that has begun may sit out steps: it costs the few megabytes that it holds, and what
    is short or due need not wait for what is long.

    A step is full at ``max_batch`` requests, or fewer where the lane ran out of memory, or where
    the requests' shares of memory or of what saturates the device make a whole. ``max_batch``
    counts requests, not rows (a guided request costs a UNet two), because callers claim work in
    requests. Those that have begun hold at most ``memory`` bytes together; one that is larger by
    itself begins when no other has. A newcomer that does not fit keeps all that rank after it
    from beginning until it does.

    Where a device saturates is known from few steps, perhaps of a bad moment, and steps that end
    there say nothing of larger ones. So now and then, ever more seldom, a step may have twice as
    many: its caller learns what it took.

    A step with room takes every request of its lane that may begin: who waits for a free slot has
    it with the lane's next step. And nobody starves. From a known time on (``QueuedRequest.rank``)
    a request is passed over only for what arrived before that time, and, where bytes are short,
    for what has begun: it waits for no more steps than those still need.

    Requests in the background stand still while any other is here: they are not ranked, and the
    bytes that they hold do not count.
    """

    def __init__(
        self,
        max_batch: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        memory: int | None = None,
    ) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch is {max_batch}; a step batch holds at least one request.")
        self.max_batch = max_batch
        self.memory = memory
        self._clock = clock
        self._requests: dict[str, QueuedRequest] = {}  # in order of arrival
        self._places = count()
        self._limits: dict[Hashable, BatchLimit] = {}  # of the lanes that ran out of memory
        self._last: tuple[Hashable, int] | None = None  # lane and size of the step being made
        self._ended_early = False
        """Whether the step being made would have more requests, but for what saturates."""
        self._trials: dict[Hashable, Trial] = {}  # of the lanes that the device saturates

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._requests

    @property
    def active(self) -> int:
        """Those that have begun."""
        return sum(request.begun for request in self._requests.values())

    @property
    def waiting(self) -> int:
        return len(self._requests) - self.active

    def add(
        self,
        request_id: str,
        key: Hashable,
        *,
        seconds: float = 0.0,
        deadline: float | None = None,
        size: int = 0,
        fill: float = 0.0,
        saturation: float = 0.0,
        background: bool = False,
    ) -> None:
        """Takes part from the next step of its lane on, or waits until one has room.

        ``seconds`` are predicted for its whole work when it is alone; without them the order is
        that of arrival. ``deadline`` is on the batcher's clock. ``size`` is in bytes, held from
        its first step until it leaves. Of a step it takes the share ``fill`` of the rows for which
        there is memory, and ``saturation`` of those at which the device saturates.

        Raises ValueError for an identifier that is already here.
        """
        if request_id in self._requests:
            raise ValueError(f"Request {request_id!r} is in the engine already.")
        now = self._clock()
        due = now + SOFT_DEADLINE * seconds if deadline is None else max(now, deadline)
        self._requests[request_id] = QueuedRequest(
            request_id,
            key,
            next(self._places),
            due,
            seconds,
            size,
            fill,
            saturation,
            background,
        )
        if saturation > 0:
            self.saturates(request_id, saturation)

    def update(self, request_id: str, seconds: float) -> None:
        """So much work is left of it, in seconds when alone. KeyError if it is not here."""
        self._requests[request_id].seconds = seconds

    def saturates(self, request_id: str, share: float) -> None:
        """Its share of what saturates the device is another one. KeyError if it is not here."""
        request = self._requests[request_id]
        request.saturation = share
        self._trials.setdefault(request.key, Trial()).learnt(share)

    def remove(self, request_id: str) -> bool:
        """Whether it was here. Its slot and its bytes are free for the next step."""
        return self._requests.pop(request_id, None) is not None

    def out_of_memory(self, requests: int) -> None:
        """The step formed last, or the part of it that held so many requests, did not fit.

        Its lane's steps are smaller from now on; see ``BatchLimit`` for how they grow again.
        """
        if self._last is None:
            return
        key = self._last[0]
        if key in self._limits:
            self._limits[key].fell(requests)
        else:
            self._limits[key] = BatchLimit(requests)
        self._last = (key, 0)

    def next_batch(self, *, background: bool = True) -> list[str]:
        """The requests that take the next step, the most urgent first; empty without work.

        To ask for the next step is to say that the last one was made. Without ``background`` those
        in it stand still even if no other is here.
        """
        self._settle()
        requests = [request for request in self._requests.values() if not request.background]
        if not requests and background:
            requests = list(self._requests.values())
        if not requests:
            return []
        now = self._clock()
        ranked = sorted(requests, key=lambda r: (r.rank(now), r.place))
        batch = self._draw(ranked, saturating=1)
        if self._ended_early and self._trials[batch[0].key].due():
            batch = self._draw(ranked, saturating=2)
        self._last = (batch[0].key, len(batch))
        return [request.id for request in batch]

    def _draw(self, ranked: list[QueuedRequest], saturating: int) -> list[QueuedRequest]:
        """``saturating``: as many times what saturates the device."""
        batch: list[QueuedRequest] = []
        free = self._free_bytes(ranked)
        filled, saturated = 0.0, 0.0
        self._ended_early = False
        for request in ranked:
            if not request.begun and request.size > free:
                free = -1  # nothing that ranks after it may begin
            elif not batch or self._fits(request, batch, filled):
                if batch and saturated + request.saturation > saturating + _ROUNDING:
                    self._ended_early = True
                    continue
                batch.append(request)
                filled, saturated = filled + request.fill, saturated + request.saturation
                free -= 0 if request.begun else request.size
                request.begun = True
        return batch

    def _free_bytes(self, ranked: list[QueuedRequest]) -> float:
        """What newcomers may take; enough for the first of them where nothing has begun."""
        if self.memory is None:
            return math.inf
        begun = [request.size for request in ranked if request.begun]
        return self.memory - sum(begun) if begun else max(self.memory, ranked[0].size)

    def _fits(self, request: QueuedRequest, batch: list[QueuedRequest], filled: float) -> bool:
        """By its tensors, and by the memory that there is."""
        key = batch[0].key
        limit = self._limits.get(key)
        most = min(self.max_batch, limit.size) if limit else self.max_batch
        return request.key == key and len(batch) < most and filled + request.fill <= 1 + _ROUNDING

    def _settle(self) -> None:
        """The last step was made: its lane's limit may have held long enough to grow."""
        if self._last is None:
            return
        (key, requests), self._last = self._last, None
        limit = self._limits.get(key)
        if limit is not None:
            limit.held(requests)
            if limit.size > self.max_batch:  # all of it has held
                del self._limits[key]
