"""Rows of different lengths in one forward pass: their tokens in one sequence, row after row.

Nothing is padded, so nothing is computed in vain; see docs/decisions/0008-mixed-sizes.md. Only the
picture's tokens are packed: prompts are equally long in a model, and stay (rows, tokens, width).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines of (tokens, head width), for the tokens of a packed sequence."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Whose the tokens of a packed (1, tokens, width) tensor are.

    ``lengths`` are the rows' tokens, in order; ``rows`` of (tokens,) is the row of each token.
    """

    lengths: tuple[int, ...]
    rows: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Segments:
        rows = [i for i, length in enumerate(lengths) for _ in range(length)]
        return cls(tuple(lengths), torch.tensor(rows, device=device))

    def with_text(self, tokens: int) -> Segments:
        """Each row's own tokens after so many of its prompt."""
        return Segments.of([tokens + length for length in self.lengths], self.rows.device)

    def per_token(self, values: Tensor) -> Tensor:
        """(rows, width) to (1, tokens, width): every token gets its row's."""
        return values.index_select(0, self.rows)[None]

    def split(self, packed: Tensor) -> tuple[Tensor, ...]:
        """(1, tokens, ...) to a (1, length, ...) for each row."""
        return torch.split(packed, list(self.lengths), dim=1)

    @contextmanager
    def running(self) -> Iterator[None]:
        """While it lasts, these are the ``running_segments``."""
        token = _running.set(self)
        try:
            yield
        finally:
            _running.reset(token)


_running: ContextVar[Segments | None] = ContextVar("segments", default=None)


def running_segments() -> Segments | None:
    """Of the packed forward pass that is running in this thread; None where none is.

    For what acts per row inside the model, such as a LoRA: an input whose leading dimension is 1
    is packed by these segments, any other has the rows in its leading dimension, as it has without
    packing. (A packed pass has at least two rows.)
    """
    return _running.get()


def interleave(text: Tensor, packed: Tensor, segments: Segments) -> Tensor:
    """(rows, n, ...) and (1, tokens, ...) to one sequence: each row's text before its own tokens.

    ``segments`` are those of ``packed``; the result is packed by their ``with_text(n)``.
    """
    own = segments.split(packed)
    return torch.cat(
        [part for row in zip(torch.split(text, 1), own, strict=True) for part in row], dim=1
    )


def deinterleave(joint: Tensor, text_tokens: int, segments: Segments) -> tuple[Tensor, Tensor]:
    """``interleave`` undone; ``segments`` are those of ``joint``."""
    parts = segments.split(joint)
    text = torch.cat([part[:, :text_tokens] for part in parts])
    return text, torch.cat([part[:, text_tokens:] for part in parts], dim=1)


def attend(attention: Any, query: Tensor, key: Tensor, value: Tensor, segments: Segments) -> Tensor:
    """Attention of (1, tokens, heads, width), each row to itself alone.

    By the backend that ``attention`` was given, row after row. This is the place for one call of
    torch's ``varlen_attn`` where there is a kernel for it: ``segments.lengths`` are all it needs.
    """
    backend = getattr(attention.processor, "_attention_backend", None)
    rows = zip(segments.split(query), segments.split(key), segments.split(value), strict=True)
    return torch.cat([dispatch_attention_fn(*row, backend=backend) for row in rows], dim=1)


def self_attention(
    attention: Any, hidden: Tensor, segments: Segments, rotary: Rotary | None = None
) -> Tensor:
    """A diffusers attention module over packed tokens, without its output projection."""
    query, key, value = _own_heads(attention, hidden)
    attended = attend(attention, _rotated(query, rotary), _rotated(key, rotary), value, segments)
    return attended.flatten(2)


def joint_attention(
    attention: Any,
    hidden: Tensor,
    text: Tensor,
    segments: Segments,
    rotary: Rotary | None = None,
) -> tuple[Tensor, Tensor]:
    """A diffusers attention module over prompts and pictures (arXiv:2403.03206, section 4).

    ``hidden`` is packed by ``segments``; ``rotary`` is for both, interleaved. The text's output
    is projected only where the module has a projection for it.
    """
    joint = segments.with_text(text.shape[1])
    query, key, value = (
        interleave(theirs, own, segments)
        for theirs, own in zip(
            _text_heads(attention, text), _own_heads(attention, hidden), strict=True
        )
    )
    attended = attend(attention, _rotated(query, rotary), _rotated(key, rotary), value, joint)
    text, hidden = deinterleave(attended.flatten(2), text.shape[1], joint)
    if not attention.context_pre_only:
        text = attention.to_add_out(text)
    return attention.to_out[0](hidden), text


def joint_block(
    block: Any,
    hidden: Tensor,
    text: Tensor,
    embedding: Tensor,
    segments: Segments,
    rotary: Rotary | None = None,
) -> tuple[Tensor, Tensor]:
    """diffusers' ``JointTransformerBlock`` or ``FluxTransformerBlock``: the new hidden and text.

    ``hidden`` is packed by ``segments``; ``embedding`` of (rows, width) modulates each row. In
    Stable Diffusion 3 the last block leaves the text as it is, and 3.5-medium attends twice.
    """
    shift, scale, gate, shift_ff, scale_ff, gate_ff, *dual = modulation(
        block.norm1, embedding, segments
    )
    normed = block.norm1.norm(hidden)
    if block.attn.context_pre_only:
        context = block.norm1_context(text, embedding)
    else:
        context, text_gate, text_shift_ff, text_scale_ff, text_gate_ff = block.norm1_context(
            text, emb=embedding
        )
    attended, text_attended = joint_attention(
        block.attn, modulate(normed, shift, scale), context, segments, rotary
    )
    hidden = hidden + gate * attended
    if dual:
        shift, scale, gate = dual
        attended = self_attention(block.attn2, modulate(normed, shift, scale), segments)
        hidden = hidden + gate * block.attn2.to_out[0](attended)
    hidden = hidden + gate_ff * block.ff(modulate(block.norm2(hidden), shift_ff, scale_ff))
    if not block.attn.context_pre_only:
        text = text + text_gate[:, None] * text_attended
        normed = modulate(block.norm2_context(text), text_shift_ff[:, None], text_scale_ff[:, None])
        text = text + text_gate_ff[:, None] * block.ff_context(normed)
    return hidden, text


def modulation(norm: Any, embedding: Tensor, segments: Segments) -> tuple[Tensor, ...]:
    """The shifts, scales and gates of diffusers' adaptive layer norms, each (1, tokens, width)."""
    values: Tensor = norm.linear(norm.silu(embedding))
    return torch.split(segments.per_token(values), embedding.shape[1], dim=-1)


def modulate(normed: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The adaptive part of a layer norm, arXiv:2212.09748."""
    return normed * (1 + scale) + shift


def final_norm(norm: Any, hidden: Tensor, embedding: Tensor, segments: Segments) -> Tensor:
    """diffusers' ``AdaLayerNormContinuous``, which scales first, over packed tokens."""
    scale, shift = modulation(norm, embedding, segments)
    return modulate(norm.norm(hidden), shift, scale)


def _own_heads(attention: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of (1, tokens, heads, width)."""
    return (
        _heads(attention, attention.to_q(hidden), attention.norm_q),
        _heads(attention, attention.to_k(hidden), attention.norm_k),
        _heads(attention, attention.to_v(hidden), None),
    )


def _text_heads(attention: Any, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (
        _heads(attention, attention.add_q_proj(text), attention.norm_added_q),
        _heads(attention, attention.add_k_proj(text), attention.norm_added_k),
        _heads(attention, attention.add_v_proj(text), None),
    )


def _heads(attention: Any, projected: Tensor, norm: Any) -> Tensor:
    heads = torch.unflatten(projected, -1, (attention.heads, -1))
    normed: Tensor = heads if norm is None else norm(heads)
    return normed


def _rotated(heads: Tensor, rotary: Rotary | None) -> Tensor:
    if rotary is None:
        return heads
    rotated: Tensor = apply_rotary_emb(heads, rotary, sequence_dim=1)
    return rotated
