"""`python -m loadtests.peers.lit`: diffusers behind LitServe, batched as its documentation says.

One diffusers call has one number of steps, one guidance scale and one size. A batch of requests
takes as many calls as it has of these, and all of it is answered once the last call has ended.
Needs `pip install 'sfumato[peers]'`.
"""

# Without `from __future__ import annotations`: LitServe reads the types of the methods below.
import base64
import io
import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import litserve
import torch
import typer
from diffusers import DiffusionPipeline
from PIL.Image import Image

from pipelines.bench.plan import BATCH
from pipelines.embedded import MODEL_PATH

PATH = "/v1/images/generations"
BATCH_TIMEOUT_S = 0.01
"""How long a batch that is not full waits: with 0 LitServe's worker never sleeps."""


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


class Diffusers(litserve.LitAPI):  # type: ignore[misc]  # it has no types
    """OpenAI's image generations, a PNG each, by diffusers' own pipeline."""

    def __init__(self, model: Path, threads: int) -> None:
        super().__init__(max_batch_size=BATCH, batch_timeout=BATCH_TIMEOUT_S, api_path=PATH)
        self._model = model
        self._threads = threads

    def setup(self, device: str) -> None:
        """Load the pipeline; LitServe calls it in the worker, which alone draws."""
        torch.set_num_threads(self._threads)
        self._pipeline = DiffusionPipeline.from_pretrained(self._model).to(device)
        self._pipeline.set_progress_bar_config(disable=True)

    def decode_request(self, request: dict[str, Any]) -> Asked:
        """The fields that `sfumato bench served` sends, all of which must be there."""
        width, height = map(int, request["size"].split("x"))
        steps, guidance_scale = request["num_inference_steps"], request["guidance_scale"]
        call = Call(steps, guidance_scale, width, height)
        return Asked(call, request["prompt"], request["seed"])

    def batch(self, inputs: list[Asked]) -> list[Asked]:
        """As they are: `predict` groups them."""
        return inputs

    def predict(self, batch: list[Asked]) -> list[Image]:
        """A picture for each, in their order; each has the noise of its own seed."""
        groups: dict[Call, list[int]] = defaultdict(list)
        for place, asked in enumerate(batch):
            groups[asked.call].append(place)
        pictures: dict[int, Image] = {}
        for call, places in groups.items():
            drawn = self._pipeline(
                prompt=[batch[place].prompt for place in places],
                width=call.width,
                height=call.height,
                num_inference_steps=call.steps,
                guidance_scale=call.guidance_scale,
                generator=[torch.Generator("cpu").manual_seed(batch[i].seed) for i in places],
            ).images
            pictures |= zip(places, drawn, strict=True)
        return [pictures[place] for place in range(len(batch))]

    def unbatch(self, output: list[Image]) -> list[Image]:
        """As they are: one for each request."""
        return output

    def encode_response(self, output: Image) -> dict[str, Any]:
        """OpenAI's shape."""
        png = io.BytesIO()
        output.save(png, "PNG")
        picture = base64.b64encode(png.getvalue()).decode()
        return {"created": int(time.time()), "data": [{"b64_json": picture}]}


def main(
    port: Annotated[int, typer.Option(help="Where it listens, on this machine alone.")] = 8001,
    model: Annotated[Path, typer.Option(help="A folder in diffusers' format.")] = MODEL_PATH,
    threads: Annotated[int, typer.Option(help="CPU threads of torch.")] = os.cpu_count() or 1,
) -> None:
    """Serve the model until Ctrl-C."""
    # By default what has waited for 30 s is answered 504.
    server = litserve.LitServer(Diffusers(model, threads), timeout=False)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    typer.run(main)
