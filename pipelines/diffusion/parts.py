"""The parts of a model folder, as ``model_index.json`` lists them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import transformers

from pipelines.diffusion.catalog import SAFETY_CHECKER, is_part, read_index, read_json
from pipelines.diffusion.errors import (
    BrokenPartError,
    CustomCodeError,
    MissingPartError,
    ModelIndexError,
    ModelLoadError,
)
from pipelines.diffusion.weights import BROKEN_FILES, check_weights

_FEATURE_EXTRACTOR = "feature_extractor"
_LIBRARIES = {"diffusers": diffusers, "transformers": transformers}


@dataclass(frozen=True, slots=True)
class Part:
    """A folder, and the class that reads it; ``package`` may be a pipeline's module."""

    folder: Path
    package: str
    class_name: str

    @property
    def is_network(self) -> bool:
        """Else it is a tokenizer or a noise scheduler."""
        return (self.folder / "config.json").is_file()

    @property
    def class_(self) -> Any:
        """None where the installed libraries have none of that name."""
        module = _LIBRARIES.get(self.package) or getattr(diffusers.pipelines, self.package, None)
        return getattr(module, self.class_name, None)


def parts_of(folder: Path, without: Collection[str] = ()) -> Iterator[Part]:
    """All but those that the index lists as null, and ``without``."""
    for name, origin in read_index(folder).items():
        if name not in without and is_part(name, origin):
            yield Part(folder / name, *origin)


def check_parts(folder: Path, without: Collection[str] = ()) -> None:
    """That every part is there, needs no code of its own and has sound weights.

    Raises MissingPartError, CustomCodeError, PickledWeightsError or BrokenWeightsError.
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
        if part.is_network:
            check_weights(part.folder)
    names = {part.folder.name for part in parts_of(folder, without)}
    if SAFETY_CHECKER in names and _FEATURE_EXTRACTOR not in names:
        raise MissingPartError(
            f"model_index.json of {str(folder)!r} names a safety checker, but no feature extractor"
            " for it to see with; download the model again, or leave the checker out."
        )


def why_unloadable(folder: Path, error: Exception, without: Collection[str] = ()) -> ModelLoadError:
    """Names the part that cannot be loaded by itself, after the whole raised ``error``."""
    for part in parts_of(folder, without):
        if part.class_ is None:
            return ModelIndexError(
                f"model_index.json of {str(folder)!r} names {part.class_name!r} of"
                f" {part.package!r}, which is not installed; upgrade diffusers and transformers, or"
                " choose another model."
            )
        try:
            for file in part.folder.glob("*.json"):
                read_json(file)
            options = {"use_safetensors": True} if part.is_network else {}
            part.class_.from_pretrained(part.folder, local_files_only=True, **options)
        except ModelLoadError as reason:
            return reason
        except BROKEN_FILES as reason:
            return BrokenPartError(
                f"{str(part.folder)!r} cannot be loaded as {part.class_name}; copy all its files"
                f" from one and the same model: {_first_line(reason)}"
            )
    return ModelLoadError(
        f"{str(folder)!r} could not be loaded, though each of its parts can be; check that they"
        f" belong together and that the device is large enough: {_first_line(error)}"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
