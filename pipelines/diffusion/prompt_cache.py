"""Prompt embeddings that were made already."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

from pipelines.diffusion.trajectory import TextEmbedding


class PromptCache:
    """Keeps embeddings up to ``max_bytes``; the least recently used goes first."""

    def __init__(self, max_bytes: int) -> None:
        """0 keeps none."""
        self._max_bytes = max_bytes
        self._embeddings: OrderedDict[Hashable, TextEmbedding] = OrderedDict()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        return self._bytes

    def get(self, key: Hashable, make: Callable[[], TextEmbedding]) -> TextEmbedding:
        """The embedding under ``key``, made now if it is not here."""
        if key in self._embeddings:
            self._embeddings.move_to_end(key)
            return self._embeddings[key]
        embedding = self._embeddings[key] = make()
        self._bytes += embedding.nbytes
        while self._bytes > self._max_bytes:
            _, oldest = self._embeddings.popitem(last=False)
            self._bytes -= oldest.nbytes
        return embedding
