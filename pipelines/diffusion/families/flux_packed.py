"""The forward pass of diffusers' ``FluxTransformer2DModel`` over rows of different sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipelines.diffusion.families.packing import (
    Rotary,
    Segments,
    deinterleave,
    final_norm,
    interleave,
    joint_block,
    modulate,
    modulation,
    self_attention,
)

_FLOAT16_MAX = 65504.0


def forward(
    transformer: Any,
    pictures: Sequence[Tensor],
    positions: Sequence[Tensor],
    text: Tensor,
    *,
    pooled_projections: Tensor,
    timestep: Tensor,
    guidance: Tensor | None,
) -> list[Tensor]:
    """For each row a prediction of (1, tokens, channels), as the model gives it alone.

    ``pictures`` are (1, tokens, channels) and ``positions`` (tokens, 3), a row each; ``text`` is
    (rows, tokens, width). The rest is as in the model's own forward.
    """
    segments = Segments.of([each.shape[1] for each in pictures], text.device)
    joint = segments.with_text(text.shape[1])
    rotary = transformer.pos_embed(_joint_positions(positions, text.shape[1]))
    with segments.running():
        hidden = transformer.x_embedder(torch.cat(list(pictures), dim=1))
        embedding = _embedding(transformer, hidden.dtype, pooled_projections, timestep, guidance)
        text = transformer.context_embedder(text)
        for block in transformer.transformer_blocks:
            hidden, text = joint_block(block, hidden, text, embedding, segments, rotary)
            text = _clipped(text)
    with joint.running():
        both = interleave(text, hidden, segments)
        for block in transformer.single_transformer_blocks:
            both = _clipped(_single_block(block, both, embedding, joint, rotary))
    with segments.running():
        _, hidden = deinterleave(both, text.shape[1], joint)
        hidden = final_norm(transformer.norm_out, hidden, embedding, segments)
        return list(segments.split(transformer.proj_out(hidden)))


def _joint_positions(positions: Sequence[Tensor], text_tokens: int) -> Tensor:
    """Each row's text, all at zero, before its picture."""
    text = positions[0].new_zeros(text_tokens, 3)
    return torch.cat([part for picture in positions for part in (text, picture)])


def _embedding(
    transformer: Any,
    dtype: torch.dtype,
    pooled: Tensor,
    timestep: Tensor,
    guidance: Tensor | None,
) -> Tensor:
    """(rows, width): what modulates each row."""
    scalars = [timestep] if guidance is None else [timestep, guidance]
    embedding: Tensor = transformer.time_text_embed(
        *(each.to(dtype) * 1000 for each in scalars), pooled
    )
    return embedding


def _single_block(
    block: Any, hidden: Tensor, embedding: Tensor, segments: Segments, rotary: Rotary
) -> Tensor:
    """diffusers' ``FluxSingleTransformerBlock``; ``hidden`` holds each row's text and picture."""
    shift, scale, gate = modulation(block.norm, embedding, segments)
    normed = modulate(block.norm.norm(hidden), shift, scale)
    attended = self_attention(block.attn, normed, segments, rotary)
    both = torch.cat([attended, block.act_mlp(block.proj_mlp(normed))], dim=2)
    projected: Tensor = block.proj_out(both)
    return hidden + gate * projected


def _clipped(hidden: Tensor) -> Tensor:
    """As diffusers keeps float16 from overflowing."""
    return hidden.clip(-_FLOAT16_MAX, _FLOAT16_MAX) if hidden.dtype == torch.float16 else hidden
