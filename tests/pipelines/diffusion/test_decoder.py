from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pipelines.diffusion.decoder import Decoder
from pipelines.diffusion.families.stable_diffusion import StableDiffusion


@pytest.fixture
def decoder() -> Iterator[Decoder[str]]:
    decoder: Decoder[str] = Decoder()
    yield decoder
    decoder.close()


def drain(decoder: Decoder[str]) -> list[tuple[str, Tensor | Exception]]:
    done = []
    while decoder.pending:
        done += decoder.wait()
    return done


def test_the_same_picture_as_in_the_step_loop(
    decoder: Decoder[str], family: StableDiffusion
) -> None:
    latents = {name: torch.randn(1, 4, 16, 16) for name in ("fox", "owl", "hare")}
    with torch.inference_mode():
        expected = {name: family.decode(each) for name, each in latents.items()}
    for name, each in latents.items():
        decoder.submit(name, family.decode, each)
    done = drain(decoder)
    assert [name for name, _ in done] == list(latents)
    for name, picture in done:
        assert isinstance(picture, Tensor)
        assert torch.equal(picture, expected[name])


def test_submitting_waits_for_nothing(decoder: Decoder[str]) -> None:
    gate = threading.Event()

    def decode(latents: Tensor) -> Tensor:
        gate.wait(10)
        return latents

    decoder.submit("fox", decode, torch.zeros(1))
    decoder.submit("owl", decode, torch.zeros(1))
    assert decoder.ready() == []
    assert decoder.pending == 2
    gate.set()
    assert [name for name, _ in drain(decoder)] == ["fox", "owl"]
    assert decoder.pending == 0
    assert decoder.wait() == []


def test_a_picture_that_fails_is_handed_back_as_its_error(decoder: Decoder[str]) -> None:
    def decode(latents: Tensor) -> Tensor:
        if latents.item() == 1:
            raise ValueError("not this one")
        return latents

    for i in range(3):
        decoder.submit(str(i), decode, torch.tensor(float(i)))
    done = dict(drain(decoder))
    assert isinstance(done["1"], ValueError)
    assert isinstance(done["0"], Tensor)
    assert isinstance(done["2"], Tensor)


def test_decodes_in_inference_mode_in_another_thread(decoder: Decoder[str]) -> None:
    seen = []

    def decode(latents: Tensor) -> Tensor:
        seen.append((torch.is_inference_mode_enabled(), threading.current_thread()))
        return latents

    decoder.submit("fox", decode, torch.zeros(1))
    drain(decoder)
    assert seen[0][0]
    assert seen[0][1] is not threading.current_thread()


def test_closing_finishes_what_is_pending() -> None:
    decoder: Decoder[str] = Decoder()
    for i in range(5):
        decoder.submit(str(i), torch.exp, torch.zeros(1))
    decoder.close()
    assert [name for name, _ in decoder.ready()] == ["0", "1", "2", "3", "4"]
