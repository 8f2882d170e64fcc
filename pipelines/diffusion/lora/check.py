"""What the names in a LoRA's file tell, before anything is loaded. Free of torch."""

from __future__ import annotations

import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pipelines.diffusion.errors import LoraLoadError, PickledWeightsError

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# Adapters that are no sum of a down and an up matrix, by how LyCORIS, kohya or PEFT name theirs.
_OTHER_KINDS = {
    "LoHa": re.compile(r"\.hada_"),
    "LoKr": re.compile(r"\.lokr_"),
    "(IA)^3": re.compile(r"\.(ia3_|on_input$)"),
    "BOFT": re.compile(r"\.boft_"),
    "OFT": re.compile(r"\.oft_"),
    "DoRA": re.compile(r"\.(dora_scale|lora_magnitude_vector)"),
    "full difference of weights": re.compile(r"\.diff(_b)?$"),
}


def check_lora_file(path: Path, *, called: str | None = None) -> list[str]:
    """That it is a LoRA in safetensors, as far as the names in it tell; returns these.

    Messages say ``called`` in place of the path. Raises LoraLoadError or PickledWeightsError.
    """
    called = called or repr(str(path))
    if path.suffix in _PICKLES:
        raise PickledWeightsError(
            f"{called} holds pickled weights, which can run code; convert it to safetensors."
        )
    if not path.is_file():
        raise LoraLoadError(f"There is no LoRA file {called}; give a *.safetensors file.")
    try:
        # As NumPy's, so that torch is not imported; no tensor is read.
        with safe_open(path, framework="np") as file:
            keys = list(file.keys())
    except SafetensorError as error:
        raise LoraLoadError(
            f"{called} is not a safetensors file ({error}); download or convert it again."
        ) from error
    for kind, mark in _OTHER_KINDS.items():
        if any(mark.search(key) for key in keys):
            raise LoraLoadError(
                f"{called} holds a {kind}, not a LoRA; use a plain LoRA, or merge the {kind}"
                " into a copy of the model and serve that."
            )
    return keys
