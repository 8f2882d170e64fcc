"""The rows of one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pipelines.diffusion.trajectory import TextEmbedding, Trajectory


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a trajectory's latents under one of its prompts."""

    trajectory: Trajectory
    text: TextEmbedding
    unconditional: bool = False


def rows_of(trajectories: Sequence[Trajectory]) -> list[Row]:
    """A row for each, then an unconditional row for each that is guided."""
    rows = [Row(each, each.conditioning.positive) for each in trajectories]
    rows += [
        Row(each, each.conditioning.negative, unconditional=True)
        for each in trajectories
        if each.conditioning.negative is not None
    ]
    return rows


def takes_loras(row: Row) -> bool:
    """Whether adapters are added to it; at scale 0 none is."""
    return any(lora.scale for lora in row.trajectory.conditioning.loras)


def guide(trajectories: Sequence[Trajectory], outputs: Sequence[Tensor]) -> list[Tensor]:
    """One prediction for each, out of the outputs for ``rows_of`` them.

    Classifier-free guidance, arXiv:2207.12598: e = e_u + w (e_c - e_u), each with its own w.
    """
    unconditional = iter(outputs[len(trajectories) :])
    predictions = []
    for trajectory, conditional in zip(trajectories, outputs, strict=False):
        prediction = conditional
        if trajectory.conditioning.negative is not None:
            base = next(unconditional)
            prediction = base + trajectory.conditioning.guidance_scale * (conditional - base)
        predictions.append(prediction)
    return predictions
