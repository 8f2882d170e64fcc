"""The streams are stand-ins: what they can show without CUDA is the order of things."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.diffusion.decoder import Decoder


class Event:
    done = False

    def record(self, _stream: Any) -> None:
        events.append(self)

    def query(self) -> bool:
        return self.done

    def synchronize(self) -> None:
        self.done = True


class Stream:
    def __init__(self, _device: torch.device) -> None:
        self.waited_for: list[str] = []

    def wait_stream(self, stream: str) -> None:
        self.waited_for.append(stream)


events: list[Event] = []


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Decoder[str]:
    events.clear()
    empty = torch.empty
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: "the steps'")
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: nullcontext())
    monkeypatch.setattr(Tensor, "record_stream", lambda *_: None)
    monkeypatch.setattr(torch, "empty", lambda *args, pin_memory, **kwargs: empty(*args, **kwargs))
    return Decoder()


def test_pictures_come_when_they_are_done_and_in_order(decoder: Decoder[str]) -> None:
    for i, name in enumerate(("fox", "owl", "hare")):
        decoder.submit(name, torch.exp, torch.full((2,), float(i)))
    assert decoder.ready() == []
    events[1].done = True
    assert decoder.ready() == [], "the first is not done"
    events[0].done = True
    done = decoder.ready()
    assert [name for name, _ in done] == ["fox", "owl"]
    assert torch.equal(done[1][1], torch.exp(torch.ones(2)))
    assert [name for name, _ in decoder.wait()] == ["hare"]
    assert decoder.wait() == []


def test_a_picture_that_fails_raises_where_it_was_submitted(decoder: Decoder[str]) -> None:
    def decode(_latents: Tensor) -> Tensor:
        raise ValueError("not this one")

    with pytest.raises(ValueError, match="not this one"):
        decoder.submit("fox", decode, torch.zeros(1))
    decoder.submit("owl", torch.exp, torch.zeros(1))
    assert [name for name, _ in decoder.wait()] == ["owl"]
