"""Which adapters each row of a forward pass takes, and where the row lies in a layer's input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from pipelines.diffusion.errors import LoraLayoutError
from pipelines.diffusion.request import LoraScale


class LoraRows:
    """The adapters of the rows of one forward pass. A scale of 0 is none."""

    def __init__(self, rows: Sequence[tuple[LoraScale, ...]]) -> None:
        """The adapters of each row, in the rows' order."""
        self._rows = [tuple(each for each in row if each.scale) for row in rows]
        self.same = all(set(row) == set(self._rows[0]) for row in self._rows)
        """Whether all rows take the same, so that any input of a layer does."""

    def __iter__(self) -> Iterator[tuple[int, LoraScale]]:
        """Each row with each of its adapters."""
        return ((i, each) for i, row in enumerate(self._rows) for each in row)

    @property
    def common(self) -> tuple[LoraScale, ...]:
        """What all rows take, where it is the ``same``."""
        return self._rows[0]

    def check_lead(self, shape: torch.Size) -> None:
        """Raises LoraLayoutError unless the rows are the leading dimension of such an input.

        Where a row lies is never guessed.
        """
        if shape[0] != len(self._rows):
            raise LoraLayoutError(
                f"An input of {tuple(shape)} does not say where each of {len(self._rows)} rows"
                " lies, and their LoRAs differ; draw them one at a time."
            )
