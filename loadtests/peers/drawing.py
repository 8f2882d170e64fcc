"""What every peer does with a batch: diffusers' own calls, and a PNG of each picture."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers import DiffusionPipeline

from pipelines.bench.plan import BATCH
from pipelines.embedded import MODEL_PATH

PATH = "/v1/images/generations"
BATCH_WAIT_S = 0.01
"""How long a batch that is not full waits for more."""

Port = Annotated[int, typer.Option(help="Where it listens, on this machine alone.")]
Model = Annotated[Path, typer.Option(help="A folder in diffusers' format.")]
Threads = Annotated[int, typer.Option(help="CPU threads of torch.")]
Batch = Annotated[int, typer.Option(help="Requests in a batch at most.")]
DEFAULT_MODEL = MODEL_PATH
DEFAULT_THREADS = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Call:
    """What all pictures of one diffusers call have in common; the size is in pixels."""

    steps: int
    guidance_scale: float
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    call: Call
    prompt: str
    seed: int

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Asked:
        """From the JSON of a request, in which every field must be there."""
        width, height = map(int, body["size"].split("x"))
        call = Call(body["num_inference_steps"], body["guidance_scale"], width, height)
        return cls(call, body["prompt"], body["seed"])


def answer(png: bytes) -> dict[str, Any]:
    """OpenAI's shape."""
    return {"created": int(time.time()), "data": [{"b64_json": base64.b64encode(png).decode()}]}


class Pipeline:
    """diffusers' pipeline. One thread makes and uses it: each has an OpenMP team of its own."""

    def __init__(self, model: Path, threads: int, device: str = "cpu") -> None:
        torch.set_num_threads(threads)
        self._pipeline = DiffusionPipeline.from_pretrained(model).to(device)
        self._pipeline.set_progress_bar_config(disable=True)

    def draw(self, batch: Sequence[Asked]) -> list[bytes]:
        """A PNG for each, in their order; each has the noise of its own seed.

        One diffusers call has one number of steps, one guidance scale and one size, so a batch
        takes as many calls as it has of these, each of at most 8 pictures.
        """
        groups: dict[Call, list[int]] = defaultdict(list)
        for place, asked in enumerate(batch):
            groups[asked.call].append(place)
        pictures: dict[int, bytes] = {}
        for call, places in groups.items():
            for first in range(0, len(places), BATCH):
                some = places[first : first + BATCH]
                pictures |= zip(some, self._call(call, [batch[i] for i in some]), strict=True)
        return [pictures[place] for place in range(len(batch))]

    def _call(self, call: Call, batch: Sequence[Asked]) -> list[bytes]:
        images = self._pipeline(
            prompt=[asked.prompt for asked in batch],
            width=call.width,
            height=call.height,
            num_inference_steps=call.steps,
            guidance_scale=call.guidance_scale,
            generator=[torch.Generator("cpu").manual_seed(asked.seed) for asked in batch],
        ).images
        return [_png(image) for image in images]


class DrawingThread:
    """A pipeline in a thread of its own, for servers with an event loop."""

    def __init__(self, model: Path, threads: int) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._pipeline = self._thread.submit(Pipeline, model, threads).result()

    async def draw(self, batch: Sequence[Asked]) -> list[bytes]:
        """As `Pipeline.draw`, one batch after another."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._pipeline.draw, batch)


def _png(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
