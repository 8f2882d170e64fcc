"""What files say: of ours, and as other tools write it."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, PngImagePlugin

METADATA = {
    "model": "embedded",
    "prompt": 'ein Fuchs im Nebel, „sfumato“ 🦊 <&"> \\ \n 狐',
    "negative_prompt": "text, frame",
    "width": 32,
    "height": 32,
    "seed": 2**63 - 1,
    "num_inference_steps": 20,
    "guidance_scale": 7.5,
    "scheduler": "dpmpp_2m_karras",
    "loras": [{"name": "ink", "scale": 0.5}],
    "created_at": "2026-11-30T16:20:33+00:00",
}
PARAMETERS = {name: value for name, value in METADATA.items() if name != "created_at"}
"""The same, as a client may send it."""

AUTOMATIC1111 = """\
a lighthouse
Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 5.5, Seed: 7, Size: 64x64, \
Model: sd_xl_base_1.0, Version: v1.10.1"""


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    """A node of a graph."""
    return {"class_type": kind, "inputs": inputs}


COMFYUI = {
    "3": node(
        "KSampler",
        seed=7,
        steps=25,
        cfg=6.5,
        sampler_name="dpmpp_2m",
        scheduler="karras",
        denoise=1,
        model=["10", 0],
        positive=["6", 0],
        negative=["7", 0],
        latent_image=["5", 0],
    ),
    "4": node("CheckpointLoaderSimple", ckpt_name="folder\\sd15.safetensors"),
    "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
    "6": node("CLIPTextEncode", text="a red fox", clip=["10", 1]),
    "7": node("CLIPTextEncode", text="text, frame", clip=["10", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0]),
    "10": node(
        "LoraLoader",
        lora_name="ink.safetensors",
        strength_model=0.7,
        strength_clip=1,
        model=["4", 0],
        clip=["4", 1],
    ),
}


def png(**texts: str) -> bytes:
    """A small PNG with these texts."""
    chunks = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        chunks.add_text(name, text, zip=len(text) > 1_000)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "png", pnginfo=chunks)
    return file.getvalue()
