"""What is told within a window, and what gives way first."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.events.event import Event, EventType
from serve.events.flow_control import MESSAGE_COST_BYTES, AckAhead, SendWindow, WindowFull

JOB, TENANT = uuid4(), uuid4()
PREVIEW = "data:image/webp;base64," + "A" * 700


def progress(step: int, image: int = 0) -> Event:
    data = {"image_id": str(image), "step": step, "preview": PREVIEW}
    return Event(TENANT, JOB, None, EventType.PROGRESS, datetime.now(UTC), data)


def durable(seq: int, event_type: EventType = EventType.IMAGE_SUCCEEDED) -> Event:
    return Event(TENANT, JOB, seq, event_type, datetime.now(UTC), {"image_id": "0"})


class Line:
    """A client's end: what came over."""

    def __init__(self, window: int = 16 * 1024) -> None:
        self.window = window
        self.told: list[dict[str, Any]] = []
        self.costs: list[int] = []
        self.send_window = SendWindow(window)

    def tell(self, event: Event) -> None:
        self._receive(self.send_window.event(event))

    def acknowledge(self, messages: int) -> None:
        self._receive(*(event.text for event in self.send_window.acknowledge(messages)))

    def _receive(self, *texts: str | None) -> None:
        for text in filter(None, texts):
            self.told.append(orjson.loads(text))
            self.costs.append(len(text.encode()) + MESSAGE_COST_BYTES)

    @property
    def steps(self) -> list[int]:
        return [event["data"]["step"] for event in self.told if event["seq"] is None]

    @property
    def seqs(self) -> list[int]:
        return [event["seq"] for event in self.told if event["seq"] is not None]


def test_without_acknowledgement_previews_give_way_first_then_progress() -> None:
    line = Line()
    for step in range(100):
        line.tell(progress(step))
    with_preview = [("preview" in event["data"]) for event in line.told]
    plain = with_preview.index(False)
    assert plain > 0
    assert not any(with_preview[plain:])
    assert sum(line.costs[:plain]) <= line.window // 4
    assert sum(line.costs) <= line.window // 2
    assert line.steps == list(range(len(line.told)))


def test_without_acknowledgement_durable_events_come_until_the_window_is_full() -> None:
    line = Line()
    for step in range(100):
        line.tell(progress(step))

    def tell_on() -> None:
        for seq in itertools.count(1):
            line.tell(durable(seq))

    with pytest.raises(WindowFull):
        tell_on()
    assert line.seqs == list(range(1, len(line.seqs) + 1)), "none is left out before the end"
    assert sum(line.costs) <= line.window < sum(line.costs) + line.costs[-1]


def test_an_acknowledgement_tells_the_newest_progress_of_each_picture() -> None:
    line = Line()
    for step in range(100):
        for image in (1, 2):
            line.tell(progress(step, image))
    before = len(line.told)
    line.acknowledge(before)
    assert [(event["data"]["image_id"], event["data"]["step"]) for event in line.told[before:]] == [
        ("1", 99),
        ("2", 99),
    ]
    line.acknowledge(len(line.told))
    assert len(line.told) == before + 2, "each is told once"
    line.tell(progress(100, 1))
    assert "preview" in line.told[-1]["data"]


def test_no_progress_is_told_after_its_picture_or_its_job() -> None:
    for end in (EventType.IMAGE_SUCCEEDED, EventType.CANCELLED):
        line = Line()
        for step in range(100):
            line.tell(progress(step))
        line.tell(durable(1, end))
        before = len(line.told)
        line.acknowledge(before)
        assert len(line.told) == before


def test_who_acknowledges_more_than_was_sent_is_told_so() -> None:
    line = Line()
    line.tell(durable(1))
    with pytest.raises(AckAhead, match="1 were sent"):
        line.acknowledge(2)
    line.acknowledge(1)
    line.acknowledge(0)  # an old one, overtaken
    line.tell(durable(2))
    line.acknowledge(2)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("progress"), st.integers(0, 3)),
            st.tuples(st.just("durable"), st.just(0)),
            st.tuples(st.just("ack"), st.integers(1, 40)),
        ),
        max_size=120,
    )
)
def test_never_more_than_a_window_is_under_way(moves: list[tuple[str, int]]) -> None:
    line = Line(window=8 * 1024)
    acknowledged = seq = 0
    for step, (move, number) in enumerate(moves):
        try:
            if move == "progress":
                line.tell(progress(step, number))
            elif move == "durable":
                seq += 1
                line.tell(durable(seq))
            else:
                acknowledged = min(acknowledged + number, len(line.told))
                line.acknowledge(acknowledged)
        except WindowFull:
            assert move == "durable"
            assert sum(line.costs[acknowledged:]) > line.window // 2
            return
        assert sum(line.costs[acknowledged:]) <= line.window
    assert line.seqs == list(range(1, seq + 1))
    for image in "0123":
        steps = [
            e["data"]["step"] for e in line.told if e["data"]["image_id"] == image and not e["seq"]
        ]
        assert steps == sorted(set(steps)), "progress never goes back"
