"""What waits for a listener that reads slowly."""

from __future__ import annotations

from serve.events.bus import Subscription
from serve.events.event import EventType
from tests.serve.events.test_bus import JOB, OTHER, durable, progress


def rest(subscription: Subscription) -> list[tuple[int | None, object, object]]:
    """Number, image and step of everything that waits."""
    told = iter(subscription.pop, None)
    return [(event.seq, event.data.get("image_id"), event.data.get("step")) for event in told]


def test_a_full_subscription_keeps_the_newest_progress_of_each_picture() -> None:
    subscription = Subscription(limit=2)
    for event in (
        *(progress(step) for step in range(6)),
        *(progress(step, "two") for step in range(3)),
        durable(1),
    ):
        subscription.offer(event)
    assert rest(subscription) == [
        (None, "one", 0),
        (None, "one", 1),
        (1, None, None),
        (None, "one", 5),
        (None, "two", 2),
    ]
    assert not subscription.overrun


def test_coalesced_progress_never_goes_back_and_ends_with_its_picture() -> None:
    subscription = Subscription(limit=1)
    for event in (progress(0), progress(1), progress(1, "two"), progress(1, "far", OTHER)):
        subscription.offer(event)
    assert subscription.pop() is not None
    subscription.offer(progress(2))
    subscription.offer(durable(1, EventType.SUCCEEDED, OTHER))
    assert rest(subscription) == [(None, "one", 2), (1, None, None), (None, "two", 1)]


def test_coalesced_progress_gives_up_its_preview() -> None:
    subscription = Subscription(limit=0)
    subscription.offer(progress(0))
    event = subscription.pop()
    assert event is not None
    assert set(event.data) == {"image_id", "step"}


def test_durable_events_are_never_dropped_without_a_word() -> None:
    subscription = Subscription(limit=2)
    for step in range(5):
        subscription.offer(progress(step))
    for seq in (1, 2):
        subscription.offer(durable(seq))
    before = subscription.overrun
    subscription.offer(durable(3))
    assert (before, subscription.overrun) == (False, True)
    assert [seq for seq, *_ in rest(subscription) if seq] == [1, 2]


def test_a_subscription_to_jobs_hears_of_no_other() -> None:
    subscription = Subscription()
    subscription.jobs = {JOB}
    subscription.offer(durable(1, job_id=OTHER))
    subscription.offer(durable(2))
    assert rest(subscription) == [(2, None, None)]
