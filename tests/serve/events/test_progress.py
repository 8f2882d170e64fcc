"""How often progress is told, on a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from uuid import UUID, uuid4

import pytest

from serve.events.event import Event, EventType
from serve.events.progress import COST_S, EVERY_S, SHARE, ProgressPace

TENANT, JOB, OTHER = uuid4(), uuid4(), uuid4()


def progress(
    step: int, image: str = "one", job_id: UUID = JOB, preview: str | None = None
) -> Event:
    data: dict[str, object] = {"image_id": image, "step": step}
    if preview is not None:
        data["preview"] = preview
    return Event(TENANT, job_id, None, EventType.PROGRESS, datetime.now(UTC), data)


def durable(event_type: EventType, job_id: UUID = JOB, **data: str) -> Event:
    return Event(TENANT, job_id, 1, event_type, datetime.now(UTC), data)


class Clock:
    """A loop of which nothing but `time` and `call_at` is there."""

    def __init__(self) -> None:
        self.now = 100.0
        self._timers: list[tuple[float, Callable[[], object], asyncio.TimerHandle]] = []

    def time(self) -> float:
        return self.now

    def call_at(
        self, when: float, call: Callable[..., object], *args: object
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, call, args, self, None)  # type: ignore[arg-type]
        self._timers.append((when, lambda: call(*args), handle))
        return handle

    def pass_s(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [timer for timer in self._timers if timer[0] <= until]:
            first = min(due, key=lambda timer: timer[0])
            self._timers.remove(first)
            self.now = max(self.now, first[0])
            if not first[2].cancelled():
                first[1]()
        self.now = until

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, _: object) -> None: ...


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("serve.events.progress.asyncio.get_running_loop", lambda: clock)
    return clock


class Told:
    def __init__(self, clock: Clock, listeners: int = 1) -> None:
        self.listeners = listeners
        self.events: list[tuple[float, Event]] = []
        self._clock = clock

    def __call__(self, event: Event) -> int:
        self.events.append((self._clock.now - 100, event))
        return self.listeners

    @property
    def steps(self) -> list[tuple[float, object]]:
        return [(round(at, 6), event.data.get("step", event.type)) for at, event in self.events]


def test_two_replicas_that_draw_one_job_are_told_of_ten_times_a_second(clock: Clock) -> None:
    told = Told(clock)
    pace = ProgressPace(told)
    for step in range(20):  # each tells as often as one may
        pace.offer(progress(step, "one"))
        pace.offer(progress(step, "two"))
        clock.pass_s(EVERY_S)
    times = [at for at, _ in told.events]
    assert all(later - earlier > EVERY_S - 1e-9 for earlier, later in pairwise(times))
    assert len(times) >= 20
    seen = [event.data["image_id"] for _, event in told.events]
    assert {seen.count("one"), seen.count("two")} <= {len(seen) // 2, len(seen) // 2 + 1}


def test_one_replica_is_not_held_up(clock: Clock) -> None:
    told = Told(clock)
    pace = ProgressPace(told)
    for step in range(5):
        pace.offer(progress(step))
        clock.pass_s(EVERY_S + 0.001)
    assert [step for _, step in told.steps] == [0, 1, 2, 3, 4]


def test_jobs_do_not_wait_for_each_other(clock: Clock) -> None:
    told = Told(clock)
    pace = ProgressPace(told)
    pace.offer(progress(1))
    clock.pass_s(0.01)
    pace.offer(progress(2, job_id=OTHER))
    assert told.steps == [(0, 1), (0.01, 2)]


def test_the_newest_waits_with_the_preview_of_an_older_one(clock: Clock) -> None:
    told = Told(clock)
    pace = ProgressPace(told)
    for event in (progress(1), progress(2, preview="seen"), progress(3), progress(4)):
        pace.offer(event)
    clock.pass_s(1)
    assert [event.data for _, event in told.events] == [
        {"image_id": "one", "step": 1},
        {"image_id": "one", "step": 4, "preview": "seen"},
    ]


def test_no_progress_is_told_after_its_picture_or_its_job(clock: Clock) -> None:
    told = Told(clock)
    pace = ProgressPace(told)
    for event in (
        progress(1),
        progress(2),
        progress(1, "two"),
        durable(EventType.IMAGE_SUCCEEDED, image_id="one"),
        progress(1, job_id=OTHER),
        progress(2, job_id=OTHER),
        durable(EventType.CANCELLED, OTHER),
    ):
        pace.offer(event)
        clock.pass_s(0.001)
    clock.pass_s(1)
    assert [(event.type, event.data.get("image_id")) for _, event in told.events] == [
        (EventType.PROGRESS, "one"),
        (EventType.IMAGE_SUCCEEDED, "one"),
        (EventType.PROGRESS, "one"),
        (EventType.CANCELLED, None),
        (EventType.PROGRESS, "two"),
    ]


def test_many_listeners_hear_of_progress_more_seldom_and_of_the_rest_at_once(clock: Clock) -> None:
    told = Told(clock, listeners=2000)
    pace = ProgressPace(told)
    for step in range(100):
        pace.offer(progress(step))
        pace.offer(progress(step, job_id=OTHER))
        clock.pass_s(EVERY_S)
    pace.offer(durable(EventType.SUCCEEDED))
    at, last = told.events[-1]
    assert round(at, 6) == 10
    assert last.type is EventType.SUCCEEDED
    spent_s = (len(told.events) - 1) * 2000 * COST_S
    assert 0.8 * SHARE * 10 < spent_s < SHARE * 10 + 2 * 2000 * COST_S
    assert {event.job_id for _, event in told.events} == {JOB, OTHER}


def test_what_waits_is_not_told_once_it_is_closed(clock: Clock) -> None:
    told = Told(clock)
    pace = ProgressPace(told)
    pace.offer(progress(1))
    pace.offer(progress(2))
    pace.close()
    clock.pass_s(1)
    assert [event.data["step"] for _, event in told.events] == [1]
