"""The parts of a model folder, as ``model_index.json`` lists them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from pipelines.diffusion.catalog import SAFETY_CHECKER, is_part, read_index, read_json
from pipelines.diffusion.errors import (
    BrokenPartError,
    BrokenWeightsError,
    CustomCodeError,
    MissingPartError,
    ModelIndexError,
)
from pipelines.diffusion.weights import BROKEN_FILES, check_weights, count_tensors, variant_of

_FEATURE_EXTRACTOR = "feature_extractor"
_LIBRARIES = {"diffusers": diffusers, "transformers": transformers}
_RENAMED = {"CLIPFeatureExtractor": "CLIPImageProcessor"}


@dataclass(frozen=True, slots=True)
class Part:
    """A folder, and the class that reads it; ``package`` may be a pipeline's module."""

    folder: Path
    package: str
    class_name: str

    @property
    def class_(self) -> Any:
        """None where the installed libraries have none of that name."""
        module = _LIBRARIES.get(self.package) or getattr(diffusers.pipelines, self.package, None)
        return getattr(module, _RENAMED.get(self.class_name, self.class_name), None)

    @property
    def is_network(self) -> bool:
        """Else it is a tokenizer or a noise scheduler."""
        return isinstance(self.class_, type) and issubclass(self.class_, nn.Module)

    def load(self, dtype: torch.dtype) -> Any:
        """Reads it from the disk alone, and of weights safetensors alone.

        Raises ModelIndexError, BrokenPartError or, for a network that has more tensors than its
        files hold, BrokenWeightsError: diffusers and transformers warn, and leave random numbers
        in the others.
        """
        options: dict[str, Any] = {}
        if self.is_network:
            variant = variant_of(self.folder)
            options = {"dtype": dtype, "use_safetensors": True, "variant": variant}
        try:
            loaded = self.class_.from_pretrained(self.folder, local_files_only=True, **options)
        except BROKEN_FILES as error:
            for file in self.folder.glob("*.json"):
                read_json(file)
            raise BrokenPartError(
                f"{str(self.folder)!r} cannot be loaded as {self.class_name}; copy all its files"
                f" from one and the same model: {first_line(error)}"
            ) from error
        if isinstance(loaded, nn.Module):
            _check_complete(self.folder, loaded)
        return loaded


def parts_of(folder: Path, without: Collection[str] = ()) -> Iterator[Part]:
    """All but those that the index lists as null, and ``without``."""
    for name, origin in read_index(folder).items():
        if name not in without and is_part(name, origin):
            yield Part(folder / name, *origin)


def check_parts(folder: Path, without: Collection[str] = ()) -> None:
    """That every part is there, needs no code of its own and has sound weights.

    Raises MissingPartError, CustomCodeError, ModelIndexError, PickledWeightsError or
    BrokenWeightsError.
    """
    for part in parts_of(folder, without):
        if not part.folder.is_dir():
            raise MissingPartError(
                f"{str(part.folder)!r} is missing; copy or download the model again."
            )
        code = part.folder / f"{part.package}.py"
        if code.is_file():
            raise CustomCodeError(
                f"{str(code)!r} is the model's own code, which is not run"
                " here; choose a model whose parts are diffusers' or transformers'."
            )
        if part.class_ is None:
            raise ModelIndexError(
                f"model_index.json of {str(folder)!r} names {part.class_name!r} of"
                f" {part.package!r}, which is not installed; upgrade diffusers and transformers, or"
                " choose another model."
            )
        if part.is_network:
            check_weights(part.folder)
    names = {part.folder.name for part in parts_of(folder, without)}
    if SAFETY_CHECKER in names and _FEATURE_EXTRACTOR not in names:
        raise MissingPartError(
            f"model_index.json of {str(folder)!r} names a safety checker, but no feature extractor"
            " for it to see with; download the model again, or leave the checker out."
        )


def first_line(error: Exception) -> str:
    """What it says, or its name where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _check_complete(folder: Path, network: nn.Module) -> None:
    """By number, since some names differ between the files and the network."""
    wanted = len({tensor.data_ptr() for tensor in network.state_dict().values()})  # tied ones once
    held = count_tensors(folder)
    if held < wanted:
        raise BrokenWeightsError(
            f"{str(folder)!r} holds {held} tensors of the {wanted} that its config.json asks for;"
            " copy its weights and config.json from one and the same model."
        )
