"""Weights on the disk: only safetensors are read."""

from __future__ import annotations

from pathlib import Path

from pipelines.diffusion.errors import MissingPartError, PickledWeightsError

# What diffusers, transformers and safetensors raise over files that do not fit together.
BROKEN_FILES = (
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def check_weights(folder: Path) -> None:
    """Raises MissingPartError or PickledWeightsError for a network without safetensors."""
    if any(folder.glob("*.safetensors")):
        return
    if any(file for pattern in _PICKLES for file in folder.glob(pattern)):
        raise PickledWeightsError(
            f"{str(folder)!r} has only pickled weights, which can run code; convert them to"
            " safetensors with save_pretrained(..., safe_serialization=True)."
        )
    raise MissingPartError(f"{str(folder)!r} has no *.safetensors; download the model again.")
