"""ComfyUI's graphs, as its files have them."""

from __future__ import annotations

import json

import pytest

from pipelines.imaging.metadata.comfyui import read_graph
from tests.pipelines.imaging.metadata.files import COMFYUI, node

FLUX = {
    "13": node(
        "SamplerCustomAdvanced",
        noise=["25", 0],
        guider=["22", 0],
        sampler=["16", 0],
        sigmas=["17", 0],
        latent_image=["27", 0],
    ),
    "12": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
    "16": node("KSamplerSelect", sampler_name="euler"),
    "17": node("BasicScheduler", scheduler="simple", steps=20, denoise=1, model=["12", 0]),
    "22": node("BasicGuider", model=["12", 0], conditioning=["26", 0]),
    "25": node("RandomNoise", noise_seed=219),
    "26": node("FluxGuidance", guidance=3.5, conditioning=["6", 0]),
    "6": node("CLIPTextEncode", text=["30", 0], clip=["11", 0]),
    "11": node("DualCLIPLoader", clip_name1="t5xxl.safetensors", clip_name2="clip_l.safetensors"),
    "27": node("EmptySD3LatentImage", width=1024, height=1024, batch_size=1),
    "30": node("PrimitiveString", value="a lighthouse"),
}


def test_a_picture_of_a_checkpoint() -> None:
    origin = read_graph(json.dumps(COMFYUI))
    assert origin is not None
    assert origin.software == "ComfyUI"
    assert origin.parameters == {
        "prompt": "a red fox",
        "negative_prompt": "text, frame",
        "num_inference_steps": 25,
        "guidance_scale": 6.5,
        "seed": 7,
        "width": 512,
        "height": 768,
        "scheduler": "dpmpp_2m_karras",
        "model": "sd15",
        "loras": [{"name": "ink", "scale": 0.7}],
    }
    assert origin.other == {}


def test_a_picture_of_a_custom_sampler() -> None:
    origin = read_graph(json.dumps(FLUX))
    assert origin is not None
    assert origin.parameters == {
        "prompt": "a lighthouse",
        "num_inference_steps": 20,
        "guidance_scale": 3.5,
        "seed": 219,
        "width": 1024,
        "height": 1024,
        "scheduler": "euler",
        "model": "flux1-dev",
    }


def test_the_pass_that_begins_with_noise_counts() -> None:
    second = {**COMFYUI["3"]["inputs"], "seed": 8, "denoise": 0.4, "latent_image": ["3", 0]}
    origin = read_graph(json.dumps({"1": node("KSampler", **second), **COMFYUI}))
    assert origin is not None
    assert origin.parameters["seed"] == 7
    assert "strength" not in origin.parameters


def test_a_picture_from_a_picture_has_its_strength() -> None:
    sampler = node("KSampler", **{**COMFYUI["3"]["inputs"], "denoise": 0.4})
    origin = read_graph(json.dumps({**COMFYUI, "3": sampler}))
    assert origin is not None
    assert origin.parameters["strength"] == 0.4


def test_a_sampler_that_we_do_not_have_keeps_its_name() -> None:
    sampler = node("KSampler", **{**COMFYUI["3"]["inputs"], "sampler_name": "dpmpp_3m_sde"})
    origin = read_graph(json.dumps({**COMFYUI, "3": sampler}))
    assert origin is not None
    assert "scheduler" not in origin.parameters
    assert origin.other == {"sampler_name": "dpmpp_3m_sde", "scheduler": "karras"}


def test_nodes_that_feed_themselves_end() -> None:
    ring = {**COMFYUI, "4": node("Odd", model=["10", 0], ckpt_name="ring.safetensors")}
    origin = read_graph(json.dumps(ring))
    assert origin is not None
    assert origin.parameters["model"] == "ring"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red fox",
        "[]",
        "[" * 100_000,
        '{"1": 5, "2": {"inputs": []}}',
        json.dumps({"1": node("SaveImage", images=["2", 0])}),
        json.dumps({"1": node("KSampler", seed=None, latent_image=5), "2": None}),
    ],
)
def test_another_text_tells_nothing(text: str) -> None:
    origin = read_graph(text)
    assert origin is None or origin.parameters == {}
