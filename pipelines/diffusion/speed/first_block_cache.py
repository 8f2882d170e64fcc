"""Steps that run the first block of a transformer alone, decided for each row by itself.

After ParaAttention's First Block Cache, and TeaCache (arXiv:2411.19108): where the first block
does to a row about what it did when the row was last run in full, so will the others. Lossy.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pipelines.diffusion.families.rows import Row, takes_loras
from pipelines.diffusion.speed.batch_buckets import padded
from pipelines.diffusion.trajectory import CachedBlocks

_BLOCK_LISTS = {
    "FluxTransformer2DModel": ("transformer_blocks", "single_transformer_blocks"),
    "SD3Transformer2DModel": ("transformer_blocks",),
}

_BlockOutput = tuple[Any, Tensor]
"""The prompt's part, and the picture's of (rows, tokens, width)."""


def can_cache_first_block(denoiser: Any) -> bool:
    """Whether its blocks are known to pass picture and prompt on in the same way."""
    return type(denoiser).__name__ in _BLOCK_LISTS


class FirstBlockCache:
    """Runs rows through a transformer, most of its blocks only for those that need it.

    What a row keeps lies with its trajectory and goes when that leaves: twice the size of the
    hidden states, for FLUX.1 at 1024 pixels 50 MB in bfloat16.
    """

    def __init__(self, denoiser: Any, threshold: float, batch_buckets: Sequence[int]) -> None:
        """``threshold`` is a relative L1 distance: 0 runs every row in full."""
        self._denoiser = denoiser
        self._threshold = threshold
        self._buckets = batch_buckets
        self.evaluations = 0
        """Rows that were run so far."""
        self.full_evaluations = 0
        """Rows that were run in full."""

    def forward(
        self, rows: Sequence[Row], run: Callable[[Sequence[Row]], Sequence[Tensor]]
    ) -> list[Tensor]:
        """What ``run`` gives for each row. It is called with rows of one size and one LoRA choice.

        So a row's result never depends on whom it shares the batch with.
        """
        groups: dict[Hashable, list[int]] = {}
        for i, row in enumerate(rows):
            trajectory = row.trajectory
            key = trajectory.latents.shape, trajectory.conditioning.loras
            groups.setdefault(key, []).append(i)
        outputs: dict[int, Tensor] = {}
        for indices in groups.values():
            buckets = () if takes_loras(rows[indices[0]]) else self._buckets
            group = padded([rows[i] for i in indices], buckets)
            forward = _Pass(group, self._threshold, buckets)
            with self._replaced_blocks(forward):
                outputs.update(zip(indices, run(group), strict=False))
            self.evaluations += len(indices)
            self.full_evaluations += sum(i < len(indices) for i in forward.computed)
        return [outputs[i] for i in range(len(rows))]

    @contextmanager
    def _replaced_blocks(self, forward: _Pass) -> Iterator[None]:
        """Attributes of the instance hide the block lists from the transformer's own forward.

        The lists stay registered with the module for all else that reads them.
        """
        names = _BLOCK_LISTS[type(self._denoiser).__name__]
        lists = [list(getattr(self._denoiser, name)) for name in names]
        vars(self._denoiser).update(zip(names, forward.replaced(lists), strict=True))
        try:
            yield
        finally:
            for name in names:
                del vars(self._denoiser)[name]


class _Pass:
    """One forward pass. Its rows are narrowed after the first block and widened by the last."""

    def __init__(self, rows: Sequence[Row], threshold: float, buckets: Sequence[int]) -> None:
        self._rows = rows
        self._threshold = threshold
        self._buckets = buckets
        self.computed: list[int] = []
        """The rows that go through all blocks; set by the first."""
        self._selected = torch.empty(0)
        """The same, filled up to a batch bucket."""
        self._change = torch.empty(0)
        """What the first block added, for all rows."""
        self._hidden = torch.empty(0)
        """What came out of it."""

    def replaced(self, lists: Sequence[Sequence[Any]]) -> list[list[Callable[..., _BlockOutput]]]:
        """To be called instead of these blocks."""
        first, last = lists[0][0], lists[-1][-1]
        calls = {id(first): self._run_first, id(last): self._run_last}
        return [
            [partial(calls.get(id(block), self._run_selected), block) for block in blocks]
            for blocks in lists
        ]

    def _run_first(self, block: Any, *, hidden_states: Tensor, **conditions: Any) -> _BlockOutput:
        text, hidden = block(hidden_states=hidden_states, **conditions)
        self._change, self._hidden = hidden - hidden_states, hidden
        self.computed = self._changed_rows()
        self._selected = torch.tensor(
            padded(self.computed, self._buckets), dtype=torch.long, device=hidden.device
        )
        return text[self._selected], hidden[self._selected]

    def _run_selected(
        self,
        block: Any,
        *,
        hidden_states: Tensor,
        encoder_hidden_states: Any,
        temb: Tensor,
        **shared: Any,
    ) -> _BlockOutput:
        if not self.computed:
            return encoder_hidden_states, hidden_states
        output: _BlockOutput = block(
            hidden_states=hidden_states,
            encoder_hidden_states=encoder_hidden_states,
            temb=temb[self._selected],
            **shared,
        )
        return output

    def _run_last(self, block: Any, **conditions: Any) -> _BlockOutput:
        """The prompt's part, which no one reads after the last block, stays narrow."""
        text, computed = self._run_selected(block, **conditions)
        hidden = self._hidden.clone()
        for i, row in enumerate(self._rows):
            kept = row.trajectory.cached_blocks
            if i in self.computed:
                hidden[i] = computed[self.computed.index(i)]
                kept[row.unconditional] = CachedBlocks(
                    self._change[i].clone(), hidden[i] - self._hidden[i]
                )
            else:
                hidden[i] += kept[row.unconditional].remainder
        return text, hidden

    def _changed_rows(self) -> list[int]:
        """One wait for the device, for all rows."""
        kept = [row.trajectory.cached_blocks.get(row.unconditional) for row in self._rows]
        distances = [
            _relative_distance(now, then.change)
            for now, then in zip(self._change, kept, strict=True)
            if then is not None
        ]
        measured = iter(torch.stack(distances).tolist() if distances else [])
        return [
            i for i, then in enumerate(kept) if then is None or not next(measured) < self._threshold
        ]


def _relative_distance(now: Tensor, then: Tensor) -> Tensor:
    """Mean absolute difference over the mean absolute value, a scalar."""
    now, then = now.float(), then.float()
    return (now - then).abs().mean() / then.abs().mean()
