"""AUTOMATIC1111's text, written and read. The texts are as its own versions write them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.imaging.metadata.automatic1111 import read_text, write_text
from tests.pipelines.imaging.metadata.files import AUTOMATIC1111

OLD = """\
(a red fox:1.2), in the snow <lora:ink:0.7>, BREAK
close up
Negative prompt: text, frame,
watermark
Steps: 25, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1234567890, Size: 512x768, \
Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Denoising strength: 0.6, Clip skip: 2, \
ENSD: 31337, Lora hashes: "ink: 0123abcd, other: 4567ef01", Version: v1.6.0"""


def test_a_text_of_version_1_6() -> None:
    origin = read_text(OLD)
    assert origin is not None
    assert origin.software == "AUTOMATIC1111 v1.6.0"
    assert origin.parameters == {
        "prompt": "(a red fox:1.2), in the snow , BREAK\nclose up",
        "negative_prompt": "text, frame,\nwatermark",
        "num_inference_steps": 25,
        "guidance_scale": 7.0,
        "seed": 1_234_567_890,
        "width": 512,
        "height": 768,
        "model": "v1-5-pruned-emaonly",
        "strength": 0.6,
        "clip_skip": 1,
        "scheduler": "dpmpp_2m_karras",
        "loras": [{"name": "ink", "scale": 0.7}],
    }
    assert origin.other == {
        "Model hash": "6ce0161689",
        "ENSD": "31337",
        "Lora hashes": "ink: 0123abcd, other: 4567ef01",
    }


def test_a_text_of_version_1_10() -> None:
    origin = read_text(AUTOMATIC1111)
    assert origin is not None
    assert origin.parameters["scheduler"] == "euler_ancestral"
    assert origin.parameters["guidance_scale"] == 5.5
    assert "negative_prompt" not in origin.parameters
    assert origin.other == {}


def test_a_sampler_that_we_do_not_have_keeps_its_name() -> None:
    origin = read_text(AUTOMATIC1111.replace("Euler a", "DPM++ SDE"))
    assert origin is not None
    assert "scheduler" not in origin.parameters
    assert origin.other["Sampler"] == "DPM++ SDE"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "holiday in Rome",
        "colours: red, light: soft, mood: calm",  # prose that looks like it
        "Steps: 20, Seed: 7",
        '{"prompt": "a fox", "seed": 7}',
    ],
)
def test_another_text_is_none(text: str) -> None:
    assert read_text(text) is None


@pytest.mark.parametrize("wrong", ["nan", "inf", "many", "", "1e999"])
def test_a_number_that_is_none_is_told_as_it_is(wrong: str) -> None:
    origin = read_text(AUTOMATIC1111.replace("CFG scale: 5.5", f"CFG scale: {wrong}"))
    assert origin is not None
    assert "guidance_scale" not in origin.parameters
    assert origin.other["CFG scale"] == wrong


def test_a_long_line_costs_no_time() -> None:
    start = time.process_time()
    for hostile in ("a" * 2**20, '":' * 2**19, 'a: "' * 2**18, "a:," * 2**18, "<lora:" * 2**17):
        read_text(f"fox\nSteps: 1, Seed: 1, {hostile}")
        read_text(f"{hostile}\nSteps: 1, Seed: 1, Size: 8x8")
    assert time.process_time() - start < 5


# Without what the text itself is made of, and without line breaks, which it does not keep.
WORDS = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters="<>"), min_size=1, max_size=20
).filter(lambda word: not word.startswith("Negative"))


@given(
    prompt=WORDS,
    negative_prompt=WORDS,
    model=WORDS,
    seed=st.integers(0, 2**63 - 1),
    guidance_scale=st.floats(0, 100, allow_nan=False),
    scheduler=st.sampled_from(["ddim", "euler", "euler_ancestral", "dpmpp_2m_karras", "unipc"]),
    clip_skip=st.integers(0, 3),
)
def test_what_we_write_is_what_we_read(**told: object) -> None:
    if not told["clip_skip"]:
        del told["clip_skip"]
    whole = {**told, "num_inference_steps": 20, "width": 64, "height": 32, "strength": 0.5}
    whole["loras"] = [{"name": "ink", "scale": -0.25}]
    origin = read_text(write_text({**whole, "software": "Sfumato 0.1.0"}))
    assert origin is not None
    assert origin.software == "Sfumato 0.1.0"
    assert origin.parameters == whole


HIRES = """\
a castle
Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x768, Denoising strength: 0.4, \
Hires upscale: 1.5, Hires upscaler: R-ESRGAN 4x+, Version: v1.9.4"""


def test_two_passes_are_those_of_hires() -> None:
    origin = read_text(HIRES)
    assert origin is not None
    told = origin.parameters
    assert (told["width"], told["height"]) == (768, 1152)
    assert told["hires"] == {"scale": 1.5, "strength": 0.4, "num_inference_steps": 50}
    assert "strength" not in told
    assert origin.other == {"Hires upscaler": "R-ESRGAN 4x+"}


def test_two_passes_are_read_as_they_were_written() -> None:
    hires = {"scale": 2.0, "strength": 0.5, "num_inference_steps": 12}
    metadata = {"prompt": "a castle", "num_inference_steps": 20, "guidance_scale": 5.0, "seed": 7}
    text = write_text({**metadata, "width": 1024, "height": 768, "hires": hires})
    assert "Size: 512x384" in text
    assert "Hires upscale: 2, Hires steps: 6" in text
    origin = read_text(text)
    assert origin is not None
    assert origin.parameters == {**metadata, "width": 1024, "height": 768, "hires": hires}
    assert origin.other == {}
