"""From a model folder or hub id to a model on its device."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn

from pipelines.diffusion.catalog import HUB_ID, ModelDescription, describe
from pipelines.diffusion.errors import (
    LoraLoadError,
    ModelLoadError,
    ModelNotFoundError,
    UnsupportedDtypeError,
)
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.families.controlnet import check_controlnet_folder, read_controlnet
from pipelines.diffusion.families.model import Model
from pipelines.diffusion.families.registry import family_entry, model_class
from pipelines.diffusion.families.unet import UNetFamily
from pipelines.diffusion.lora.check import check_lora_file
from pipelines.diffusion.parts import check_parts, first_line
from pipelines.diffusion.pool import Placing
from pipelines.diffusion.speed.accelerate import accelerate
from pipelines.diffusion.speed.acceleration import Acceleration
from pipelines.diffusion.weights import BROKEN_FILES

_SLICE_BYTES = 256 * 2**20


def load_model(
    source: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    controlnets: Mapping[str, Path] | None = None,
    loras: Mapping[str, Path] | None = None,
    acceleration: Acceleration | None = None,
    without: Collection[str] = (),
) -> Model:
    """Loads a model at once: ``read_model``, and what it returns to its end.

    ``threads`` sets how many CPU threads torch computes with in the calling thread.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    placing = read_model(source, device, dtype, controlnets, loras, acceleration, without)
    while True:
        try:
            next(placing)
        except StopIteration as end:
            model: Model = end.value
            return model


def read_model(
    source: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    controlnets: Mapping[str, Path] | None = None,
    loras: Mapping[str, Path] | None = None,
    acceleration: Acceleration | None = None,
    without: Collection[str] = (),
) -> Placing:
    """Reads a model into plain memory, safetensors only; the generator puts it on its device.

    ``source`` is a local diffusers folder or a hub id. ``device`` is "auto" (CUDA where there is
    one) or torch's name for one; ``dtype`` is "auto" (see docs/decisions/0003-dtype.md),
    "float32", "bfloat16" or "float16". ``controlnets`` are folders and ``loras`` files by the name
    that requests use. Without ``acceleration`` every speed-up is on "auto". ``without`` names
    parts that are not to be loaded: ``SAFETY_CHECKER`` alone can be spared. Raises ModelLoadError,
    as does the generator.
    """
    folder = find_folder(source, without)
    description = describe(folder)
    check_folder(folder, description, controlnets or {}, loras or {}, without)
    chosen = choose_device(device)
    class_ = model_class(description.class_name)
    try:
        pipeline = class_.read(folder, choose_dtype(dtype, chosen), without)
    except BROKEN_FILES as error:
        raise _unfitting(folder, error) from error
    read_controlnets = {}
    for name, path in (controlnets or {}).items():
        factor = description.vae_scale_factor
        read_controlnets[name] = read_controlnet(path, pipeline.unet, factor)

    def place() -> Placing:
        yield from _moved(pipeline, chosen)
        try:
            model = class_(pipeline, description)
        except torch.OutOfMemoryError:
            raise
        except BROKEN_FILES as error:
            raise _unfitting(folder, error) from error
        yield
        for name, controlnet in read_controlnets.items():
            assert isinstance(model, UNetFamily)  # noqa: S101 - it has a UNet
            model.add_controlnet(name, controlnet)
            yield
        for name, path in (loras or {}).items():
            assert isinstance(model, Family)  # noqa: S101 - no other takes any
            model.loras.load(name, path)
            yield
        accelerate(model, acceleration or Acceleration())
        yield
        return model

    return place()


def check_folder(
    folder: Path,
    description: ModelDescription,
    controlnets: Mapping[str, Path],
    loras: Mapping[str, Path],
    without: Collection[str] = (),
) -> None:
    """All that can be told of a local model and its adapters before anything large is read.

    Raises ModelLoadError.
    """
    family = family_entry(description.class_name)
    for name, path in controlnets.items():
        if family is None or family.denoiser != "unet":
            raise ModelLoadError(f"{str(folder)!r} has no UNet; leave out ControlNet {name!r}.")
        check_controlnet_folder(path)
    for name, path in loras.items():
        if family is None:
            raise LoraLoadError(f"{str(folder)!r} is called whole; leave out LoRA {name!r}.")
        check_lora_file(path)
    check_parts(folder, without)


def _unfitting(folder: Path, error: Exception) -> ModelLoadError:
    return ModelLoadError(
        f"{str(folder)!r} could not be loaded, though each of its parts can be; check that they"
        f" belong together and that the device is large enough: {first_line(error)}"
    )


def _moved(pipeline: Any, device: torch.device) -> Iterator[None]:
    """Module by module, so that a step is never far: a part of 20 GB takes seconds."""
    moved = 0
    for part in pipeline.components.values():
        if not isinstance(part, nn.Module):
            continue
        for module in part.modules():
            if not any(True for _ in module.children()):
                module.to(device)
                moved += sum(each.nbytes for each in module.parameters())
            if moved > _SLICE_BYTES:
                moved = 0
                yield
        part.to(device)  # what is in no leaf
    yield


def find_folder(source: str | Path, without: Collection[str] = ()) -> Path:
    """The local folder of a model; one on the hub is downloaded to the hub's own cache.

    Of that ``without`` is left out.
    """
    folder = Path(source)
    if folder.is_dir() or not HUB_ID.fullmatch(str(source)):
        return folder
    try:
        left_out = dict.fromkeys(without)
        return Path(DiffusionPipeline.download(str(source), use_safetensors=True, **left_out))
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"{str(source)!r} is neither a folder nor to be had from the hub: {error}"
        ) from error


def choose_device(name: str) -> torch.device:
    """Raises ModelLoadError for a device that this machine has not."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelLoadError(
            f"There is no device {name!r}; use 'auto', 'cpu' or 'cuda'."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelLoadError("No CUDA device is to be seen here; use device 'cpu' or 'auto'.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelLoadError(
            f"There is no device {name!r}; the last one here is"
            f" 'cuda:{torch.cuda.device_count() - 1}'."
        )
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """For "auto" bfloat16 on CUDA devices that compute with it, and float32 elsewhere.

    CUDA devices that only emulate bfloat16 are slower with it than with float32, so that asking
    them for it raises UnsupportedDtypeError. CPUs compute with all three.
    """
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "auto":
        return torch.bfloat16 if native else torch.float32
    if name == "bfloat16" and device.type == "cuda" and not native:
        raise UnsupportedDtypeError(
            f"{torch.cuda.get_device_name(device)} does not compute with bfloat16; use dtype"
            " 'float16', 'float32' or 'auto'."
        )
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in named:
        raise ModelLoadError(f"There is no dtype {name!r}; use 'auto' or {', '.join(named)}.")
    return named[name]
