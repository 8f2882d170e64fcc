"""The engine's expected failures; each is one sentence that a person can act on. Free of torch."""

from __future__ import annotations


class DiffusionError(Exception):
    """Anything that this room expects to go wrong."""


class ModelLoadError(DiffusionError):
    """The model cannot be served; the message names the file and the remedy."""


class ModelNotFoundError(ModelLoadError):
    """There is no such folder, nor can it be had from the hub."""


class ModelIndexError(ModelLoadError):
    """``model_index.json`` or a part's configuration is missing or is not what it should be."""


class UnsupportedFamilyError(ModelLoadError):
    """The folder holds a pipeline of a class that nothing here can draw pictures with."""


class CustomCodeError(ModelLoadError):
    """The folder asks for code of its own to be run."""


class MissingPartError(ModelLoadError):
    """A part that ``model_index.json`` lists has no folder, no configuration or no weights."""


class BrokenPartError(ModelLoadError):
    """A part's files cannot be read, or do not fit together."""


class BrokenWeightsError(BrokenPartError):
    """A file of weights is cut short, or lacks what the part's configuration asks for."""


class UnsupportedDtypeError(ModelLoadError):
    """The device does not compute with the dtype that was asked for."""


class PickledWeightsError(ModelLoadError):
    """A part has weights only in a format that can run code when it is read."""


class LoraLoadError(ModelLoadError):
    """The file holds no LoRA that fits this model."""


class LoraLayoutError(DiffusionError):
    """A layer's input does not show which row is where, so that adapters per row cannot apply."""


class AccelerationError(ModelLoadError):
    """A speed-up was asked for that this machine or this model cannot have."""


class RequestError(DiffusionError):
    """The request itself is at fault; the message goes to whoever sent it.

    ``param`` is the field of the request, where one alone is at fault.
    """

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnsafePictureError(RequestError):
    """The model's own safety checker refused the picture that was drawn."""

    def __init__(self) -> None:
        super().__init__(
            "The model's safety checker refused the picture; change the prompt or the seed."
        )


class EngineStoppedError(DiffusionError):
    """The engine takes no more requests: it is stopping, stopped or dead."""


class WarmUpError(DiffusionError):
    """The first picture could not be drawn, so that the model is not ready."""
