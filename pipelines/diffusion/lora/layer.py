"""The adapters of one layer, each for its rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.diffusion.lora.file import LoraPair, LoraTarget
from pipelines.diffusion.lora.rows import LoraRows
from pipelines.diffusion.request import LoraScale


@dataclass(frozen=True, slots=True)
class _Stack:
    """Updates of one rank, a row each: ``index`` into the rows, None where it counts them up.

    ``scale`` is (pairs, 1, 1).
    """

    pairs: tuple[LoraPair, ...]
    index: Tensor | None
    scale: Tensor


class LoraLayer:
    """Adds to a layer's output what the rows of the running forward pass ask for.

    That is scale * up(down(x)) for the rows of each adapter (arXiv:2310.18547), by a hook: the
    layer and its weights stay as they are, quantised or not. Where rows differ, those of one rank
    are one batched product, whatever their adapters: see docs/decisions/0010-lora-per-row.md.
    """

    def __init__(self, target: LoraTarget) -> None:
        self.pairs: dict[str, LoraPair] = {}
        """By the adapter's name."""
        self._target = target
        self._rows: LoraRows | None = None  # of the running forward pass, if any takes adapters
        self._stacks: tuple[LoraRows, list[_Stack]] | None = None  # of the last rows that differed
        self._hook: Any = None

    def attach(self) -> None:
        """Calls of the layer add updates from now on."""
        self._hook = self._target.register_forward_hook(self._add_updates)

    def detach(self) -> None:
        self._hook.remove()
        self._stacks = None

    def run(self, rows: LoraRows | None) -> None:
        """From now on calls of the layer are of these rows; None: no pass runs that takes any."""
        self._rows = rows

    def _add_updates(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        rows, x = self._rows, inputs[0]
        if rows is None:
            pass
        elif rows.same:
            self._add_common(rows, x, output)
        else:
            self._add_stacked(rows, x, output)
        return output

    def _add_common(self, rows: LoraRows, x: Tensor, output: Tensor) -> None:
        """All of the input takes the same."""
        target = self._target
        for pair, scale in self._known(rows.common):
            if isinstance(target, nn.Linear):
                _add_product(output, x, pair, scale)
            else:
                hidden = functional.conv2d(
                    x, pair.down, None, target.stride, target.padding, target.dilation
                )
                output += functional.conv2d(hidden * scale, pair.up)

    def _add_stacked(self, rows: LoraRows, x: Tensor, output: Tensor) -> None:
        """The leading dimension is the rows; the updates are stacked for this call alone."""
        if self._stacks is None or self._stacks[0] is not rows:
            self._stacks = rows, list(self._stack(rows, x))
        for stack in self._stacks[1]:
            picked = x if stack.index is None else x.index_select(0, stack.index)
            downs = torch.stack([pair.down for pair in stack.pairs])
            ups = torch.stack([pair.up.flatten(1) for pair in stack.pairs])
            if isinstance(self._target, nn.Linear):
                flat = output.view(len(output), -1, output.shape[-1])
                tokens = picked.reshape(len(picked), -1, picked.shape[-1])
                hidden = torch.bmm(tokens, downs.transpose(1, 2)) * stack.scale
                factors = hidden, ups.transpose(1, 2)
            else:
                flat = output.view(*output.shape[:2], -1)
                hidden = _convolved(self._target, picked, downs) * stack.scale
                factors = ups, hidden
            if stack.index is None:
                flat.baddbmm_(*factors)
            else:
                flat.index_add_(0, stack.index, torch.bmm(*factors))

    def _stack(self, rows: LoraRows, x: Tensor) -> Iterator[_Stack]:
        by_rank: dict[int, list[tuple[int, LoraPair, float]]] = defaultdict(list)
        for i, each in rows:
            for pair, scale in self._known([each]):
                by_rank[len(pair.down)].append((i, pair, scale))
        if by_rank:
            rows.check_lead(x.shape)
        for entries in by_rank.values():
            index, pairs, scales = zip(*entries, strict=True)
            yield _Stack(
                pairs,
                None if index == tuple(range(len(x))) else torch.tensor(index, device=x.device),
                torch.tensor(scales, dtype=x.dtype, device=x.device)[:, None, None],
            )

    def _known(self, asked: Iterable[LoraScale]) -> Iterator[tuple[LoraPair, float]]:
        """Of what is asked, that which changes this layer."""
        return ((self.pairs[each.name], each.scale) for each in asked if each.name in self.pairs)


def _add_product(output: Tensor, x: Tensor, pair: LoraPair, scale: float) -> None:
    """To a linear layer's output, (..., width)."""
    hidden = functional.linear(x, pair.down).flatten(0, -2)
    output.view(-1, output.shape[-1]).addmm_(hidden, pair.up.t(), alpha=scale)


def _convolved(layer: nn.Conv2d, x: Tensor, downs: Tensor) -> Tensor:
    """Each row by weights of its own, as groups of one convolution: (rows, rank, pixels).

    The lower half of a convolution's update has its kernel, stride, padding and dilation.
    """
    hidden = functional.conv2d(
        x.reshape(1, -1, *x.shape[2:]),
        downs.flatten(0, 1),
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        len(x),
    )
    return hidden.view(*downs.shape[:2], -1)
