"""What LoRAs cost a step of eight rows: the figures of 0010-lora-per-row.md.

OMP_NUM_THREADS=1 PYTHONPATH=. python docs/decisions/0010_lora_per_row.py
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from pipelines import embedded
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import LoraScale, SamplingParams
from tests.pipelines.diffusion.lora.lora_files import attention, matrices, save_peft

if TYPE_CHECKING:
    from pipelines.diffusion.families.base import Family
    from pipelines.diffusion.trajectory import Trajectory

ROWS, RANK, ROUNDS = 8, 16, 30


def batch(family: Family, kind: str, adapters: int, scale: float) -> list[Trajectory]:
    """Unguided, so that a request is a row; row ``i`` has scale 1 + ``scale`` i."""
    trajectories = []
    for i in range(ROWS):
        name = f"{kind} {i % max(adapters, 1)}"
        params = SamplingParams(
            prompt="a red heart",
            width=family.description.default_width,
            height=family.description.default_height,
            num_inference_steps=4,
            guidance_scale=1.0,
            seed=i,
            loras=(LoraScale(name, 1 + scale * i),) if adapters else (),
        )
        trajectories.append(family.prepare(params, family.encode(params)))
    return trajectories


def main() -> None:
    family = cast("Family", load_model(embedded.MODEL_PATH, "cpu", "float32", threads=1))
    kinds = {
        "attention": lambda name: attention(name) and name.startswith("unet."),
        "all layers": lambda name: name.startswith("unet."),
    }
    folder = Path(tempfile.mkdtemp())
    for kind, take in kinds.items():
        for i in range(ROWS):
            pairs = matrices(family.pipeline, i, RANK, take)
            path = save_peft(folder / f"{kind} {i}.safetensors", pairs)
            family.loras.load(f"{kind} {i}", path)
        adapter = family.loras.adapter(f"{kind} 0")
        sys.stdout.write(f"{kind}: {len(adapter.pairs)} layers, {adapter.nbytes / 2**20:.2f} MiB\n")
        batches = {
            "none": batch(family, kind, 0, 0.0),
            "1, one scale": batch(family, kind, 1, 0.0),
            "1, eight scales": batch(family, kind, 1, 0.1),
            "4": batch(family, kind, 4, 0.1),
            "8": batch(family, kind, 8, 0.1),
        }
        seconds: dict[str, list[float]] = {name: [] for name in batches}
        for name in [*batches, *reversed(batches)] * (ROUNDS + 1):
            start = time.thread_time()
            family.denoise(batches[name])
            seconds[name].append(time.thread_time() - start)
        none = statistics.median(seconds["none"][2:])
        for name, each in seconds.items():
            median = statistics.median(each[2:])
            sys.stdout.write(f"  {name}: {median * 1000:.0f} ms, {median / none:.2f}\n")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
