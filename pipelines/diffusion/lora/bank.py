"""LoRA adapters by name, each request with its own, in one forward pass.

Low-rank updates (arXiv:2106.09685) are added per row of the batch rather than fused into the
weights, as S-LoRA (arXiv:2311.03285) and Punica (arXiv:2310.18547) do it for language models.
The reference is diffusers' ``load_lora_weights`` with ``set_adapters(names, weights)``.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipelines.diffusion.adapters import check_loras
from pipelines.diffusion.errors import LoraLoadError, ModelLoadError, RequestError
from pipelines.diffusion.lora.file import LoraPair, LoraTarget, lora_parts, read_lora
from pipelines.diffusion.lora.layer import LoraLayer
from pipelines.diffusion.lora.rows import LoraRows
from pipelines.diffusion.request import LoraScale

MOST_TAKEN = 16
"""Adapters beside the configured ones that a model keeps, if no more are in use."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A loaded LoRA. ``serial`` tells it from all others that bore or will bear its name."""

    serial: int
    pairs: dict[LoraTarget, LoraPair]
    reads_text: bool  # whether it changes a text encoder

    @property
    def nbytes(self) -> int:
        return sum(pair.nbytes for pair in self.pairs.values())


class LoraBank:
    """The LoRA adapters of one pipeline.

    A forward pass within ``applied`` adds to each row what its request asks for. Outside of it,
    or where no row asks for any, the layers run as if no adapter were loaded: nothing is added to
    the model but hooks, and those only from the first pass that uses an adapter to the next that
    uses none. A pass that uses one goes around torch.compile (stance "force_eager"): exact, but
    not sped up. Who captures CUDA graphs must not replay one within a pass where ``running``.
    Quantised layers take adapters as long as they are Linear or Conv2d still and their weight
    tells the dtype that they compute in.
    """

    def __init__(self, pipeline: Any) -> None:
        """``pipeline`` is on its device and in its dtype; its parts stay the same objects."""
        self._pipeline = pipeline
        self._adapters: dict[str, Adapter] = {}
        self._layers: dict[LoraTarget, LoraLayer] = {}
        self._taken: dict[str, None] = {}  # by ``take``, the least recently used first
        self._loaded = 0  # adapters so far
        self._attached = False
        self._running: LoraRows | None = None
        self._last: tuple[Sequence[tuple[LoraScale, ...]], LoraRows] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._adapters)

    @property
    def running(self) -> bool:
        """Whether a forward pass is on its way that takes adapters."""
        return self._running is not None

    @property
    def nbytes(self) -> int:
        """Held by all adapters, where their layers are."""
        return sum(adapter.nbytes for adapter in self._adapters.values())

    def adapter(self, name: str) -> Adapter:
        """KeyError for one that is not loaded."""
        return self._adapters[name]

    def load(self, name: str, path: Path) -> None:
        """Reads a *.safetensors file; requests may name it from now on.

        Raises LoraLoadError or PickledWeightsError, and then nothing has changed.
        """
        if name in self._adapters:
            raise LoraLoadError(
                f"A LoRA {name!r} is loaded already; give {str(path)!r} another name."
            )
        pairs = read_lora(path, self._pipeline)
        text_layers = {
            layer
            for part, module in lora_parts(self._pipeline).items()
            if part.startswith("text_encoder")
            for layer in module.modules()
        }
        self._detach()
        self._loaded += 1
        self._adapters[name] = Adapter(self._loaded, pairs, not text_layers.isdisjoint(pairs))
        for target, pair in pairs.items():
            self._layers.setdefault(target, LoraLayer(target)).pairs[name] = pair

    def take(self, files: Mapping[str, Path], in_use: Collection[str]) -> None:
        """Loads those that are not here, for a request that is about to begin.

        Of what came this way the least recently used leave beyond ``MOST_TAKEN``, but none that is
        ``in_use``. Raises RequestError for a file that does not fit; the path is not told.
        """
        for name, path in files.items():
            if name not in self._adapters:
                try:
                    self.load(name, path)
                except ModelLoadError as error:
                    reason = str(error).replace(repr(str(path)), f"LoRA {name!r}")
                    raise RequestError(reason, "loras") from error
            self._taken.pop(name, None)
            self._taken[name] = None
        excess = max(0, len(self._taken) - MOST_TAKEN)
        for name in [each for each in self._taken if each not in in_use][:excess]:
            del self._taken[name]
            self.unload(name)

    def unload(self, name: str) -> None:
        """Frees its memory; requests that still name it fail. KeyError if it is not loaded."""
        self._detach()
        for target in self._adapters.pop(name).pairs:
            del self._layers[target].pairs[name]
            if not self._layers[target].pairs:
                del self._layers[target]

    def check(self, asked: Sequence[LoraScale]) -> None:
        """Raises RequestError as ``check_loras`` does, for those that are loaded."""
        check_loras(asked, self._adapters)

    @property
    def text_key(self) -> Hashable:
        """Prompts that are embedded under equal keys have equal embeddings."""
        if self._running is None:
            return frozenset()
        return frozenset(
            (self._adapters[each.name].serial, each.scale)
            for _, each in self._running
            if self._adapters[each.name].reads_text
        )

    @contextmanager
    def applied(self, rows: Sequence[tuple[LoraScale, ...]]) -> Iterator[None]:
        """Forward passes of these rows, in their order, add what each row asks for.

        Raises RequestError as ``check`` does; a layer whose input does not show where the rows
        lie raises LoraLayoutError.
        """
        for row in rows:
            self.check(row)
        if not any(each.scale for row in rows for each in row):
            self._detach()
            yield
            return
        self._attach()
        self._run(self._lora_rows(rows))
        try:
            with _eagerly():
                yield
        finally:
            self._run(None)

    def _lora_rows(self, rows: Sequence[tuple[LoraScale, ...]]) -> LoraRows:
        """Those of the pass before where nothing changed: their indices are on the device."""
        if self._last is None or self._last[0] != rows:
            self._last = rows, LoraRows(rows)
        return self._last[1]

    def _run(self, rows: LoraRows | None) -> None:
        self._running = rows
        for layer in self._layers.values():
            layer.run(rows)

    def _attach(self) -> None:
        if not self._attached:
            for layer in self._layers.values():
                layer.attach()
            self._attached = True

    def _detach(self) -> None:
        """Forgets the last pass as well: its adapters may go."""
        if self._attached:
            for layer in self._layers.values():
                layer.detach()
            self._attached, self._last = False, None


def _eagerly() -> AbstractContextManager[None]:
    """Compiled code knows no hooks that came after it; what is not compiled needs no such care."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance
