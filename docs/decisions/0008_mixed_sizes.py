"""The measurement behind 0008-mixed-sizes.md: one step of rows of different sizes, three ways."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor
from torch.nn import functional

from pipelines.diffusion.families import flux_packed

# FLUX.1-dev with its widths and its tokens at an eighth, so that linear layers and attention keep
# their ratio, and two and four of its 19 and 38 layers.
TRANSFORMER = {
    "in_channels": 64,
    "num_layers": 2,
    "num_single_layers": 4,
    "attention_head_dim": 128,
    "num_attention_heads": 3,
    "joint_attention_dim": 512,
    "pooled_projection_dim": 96,
    "guidance_embeds": True,
}
TEXT_TOKENS = 64
GRIDS = {1024: (32, 16), 768: (24, 12), 512: (16, 8), 256: (8, 4)}  # of tokens, by pixels
BATCHES = [(1024, 512), (1024, 512, 512, 512), (1024, 768, 512, 256), (512, 256), (1024, 1024)]
ROUNDS = 4  # of A B C C B A

Arm = Callable[[], list[Tensor]]


class Step:
    """Random inputs for one step of rows of these sizes."""

    def __init__(self, model: FluxTransformer2DModel, sizes: Sequence[int]) -> None:
        generator = torch.Generator().manual_seed(0)
        rows = len(sizes)
        self.model = model
        self.grids = [GRIDS[size] for size in sizes]
        self.pictures = [
            torch.randn(1, height * width, 64, generator=generator) for height, width in self.grids
        ]
        self.text = torch.randn(rows, TEXT_TOKENS, 512, generator=generator)
        self.conditions = {
            "pooled_projections": torch.randn(rows, 96, generator=generator),
            "timestep": torch.rand(rows, generator=generator),
            "guidance": torch.full((rows,), 3.5),
        }

    def packed(self) -> list[Tensor]:
        ids = [positions(grid) for grid in self.grids]
        return flux_packed.forward(self.model, self.pictures, ids, self.text, **self.conditions)

    def by_size(self) -> list[Tensor]:
        """The model's own forward for each size: what lanes that take turns pay in sum."""
        outputs: list[Tensor] = [torch.empty(0)] * len(self.grids)
        for grid in dict.fromkeys(self.grids):
            index = [i for i, each in enumerate(self.grids) if each == grid]
            output = self.model(
                torch.cat([self.pictures[i] for i in index]),
                self.text[index],
                img_ids=positions(grid),
                txt_ids=torch.zeros(TEXT_TOKENS, 3),
                return_dict=False,
                **{name: each[index] for name, each in self.conditions.items()},
            )[0]
            for i, each in zip(index, output.split(1), strict=True):
                outputs[i] = each
        return outputs

    def padded(self) -> list[Tensor]:
        """The model's own forward, each picture in a corner of the largest; the rest is masked."""
        grid = max(height for height, _ in self.grids), max(width for _, width in self.grids)
        seen = torch.cat([inside(each, grid) for each in self.grids])
        mask = torch.cat([torch.ones(len(seen), TEXT_TOKENS, dtype=torch.bool), seen], dim=1)
        pictures = torch.zeros(*seen.shape, 64)
        for i, picture in enumerate(self.pictures):
            pictures[i, seen[i]] = picture[0]
        output = self.model(
            pictures,
            self.text,
            img_ids=positions(grid),
            txt_ids=torch.zeros(TEXT_TOKENS, 3),
            joint_attention_kwargs={"attention_mask": mask[:, None, None]},
            return_dict=False,
            **self.conditions,
        )[0]
        return [output[i : i + 1, seen[i]] for i in range(len(seen))]


def positions(grid: tuple[int, int]) -> Tensor:
    return functional.pad(torch.cartesian_prod(*map(torch.arange, grid)), (1, 0)).float()


def inside(grid: tuple[int, int], largest: tuple[int, int]) -> Tensor:
    """(1, tokens of the largest): which of them are the picture's."""
    seen = torch.zeros(largest, dtype=torch.bool)
    seen[: grid[0], : grid[1]] = True
    return seen.flatten()[None]


def measure(arms: dict[str, Arm]) -> dict[str, float]:
    """Median seconds of the processor, which others share, for each; interleaved forth and back."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(ROUNDS):
        for name in [*arms, *reversed(arms)]:
            start = time.process_time()
            arms[name]()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(each) for name, each in times.items()}


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = FluxTransformer2DModel(**TRANSFORMER).eval()
    sys.stdout.write(
        "| rows, px | padded | by size | packed | largest difference |\n|---|---|---|---|---|\n"
    )
    for sizes in BATCHES:
        step = Step(model, sizes)
        arms: dict[str, Arm] = {
            "padded": step.padded,
            "by size": step.by_size,
            "packed": step.packed,
        }
        outputs = [arm() for arm in arms.values()]  # warms up as well
        difference = max(
            float((each - own).abs().max())
            for other in outputs
            for each, own in zip(other, outputs[1], strict=True)
        )
        cells = [f"{1000 * seconds:.0f} ms" for seconds in measure(arms).values()]
        sys.stdout.write(
            f"| {', '.join(map(str, sizes))} | {' | '.join(cells)} | {difference:.0e} |\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
