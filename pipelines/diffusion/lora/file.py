"""A LoRA as it lies in a safetensors file, read by diffusers' own converters.

What diffusers reads for a pipeline is read here: its own and PEFT's naming, and of kohya's
(with network alphas) what ``lora_state_dict`` of the pipeline's class converts.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from torch import Tensor, nn

from pipelines.diffusion.errors import LoraLoadError
from pipelines.diffusion.lora.check import check_lora_file

logger = logging.getLogger(__name__)

LoraTarget = nn.Linear | nn.Conv2d

_MATRIX = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight")
# What the converters raise over a file that is not what they take it for.
_UNREADABLE = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class LoraPair:
    """One layer's update up·down, arXiv:2106.09685; alpha / rank is in ``up`` already.

    ``down`` is (rank, in, ...) and ``up`` (out, rank, ...), with the kernel's dimensions where
    the layer is a convolution.
    """

    down: Tensor
    up: Tensor

    @property
    def nbytes(self) -> int:
        return self.down.nbytes + self.up.nbytes


def lora_parts(pipeline: Any) -> dict[str, nn.Module]:
    """The parts of a diffusers pipeline that take LoRAs, by name; none where it knows of none."""
    names = getattr(type(pipeline), "_lora_loadable_modules", ())
    parts = {name: getattr(pipeline, name, None) for name in names}
    # A part that torch.compile wraps as a whole hides its layers' names.
    return {
        name: getattr(part, "_orig_mod", part) for name, part in parts.items() if part is not None
    }


def read_lora(path: Path, pipeline: Any) -> dict[LoraTarget, LoraPair]:
    """The update of each layer that the file names, on the layer's device and in its dtype.

    Raises LoraLoadError or PickledWeightsError.
    """
    check_lora_file(path)
    parts = lora_parts(pipeline)
    if not parts:
        raise LoraLoadError(
            f"{str(path)!r} cannot be used with a {type(pipeline).__name__}, which takes no LoRA;"
            " serve a model of another family."
        )
    pairs: dict[LoraTarget, LoraPair] = {}
    try:
        state, alphas, metadata = _convert(path, pipeline)
        for part, module in parts.items():
            for name, pair in _pairs_of(part, module, state, alphas, metadata).items():
                target = _target(path, part, module, name)
                if target is not None:
                    pairs[target] = _fitted(path, f"{part}.{name}", target, pair)
    except _UNREADABLE as error:
        raise LoraLoadError(
            f"{str(path)!r} is no LoRA that diffusers reads for a {type(pipeline).__name__}:"
            f" {error}; choose one that was trained for this model's family."
        ) from error
    if not pairs:
        raise LoraLoadError(
            f"{str(path)!r} names no layer of this {type(pipeline).__name__}; choose a LoRA that"
            " was trained for this model's family."
        )
    return pairs


def _convert(
    path: Path, pipeline: Any
) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any] | None]:
    """Weights in diffusers' naming, network alphas, and the LoRA configuration of the file."""
    options = {"return_alphas": True, "return_lora_metadata": True, "use_safetensors": True}
    if hasattr(pipeline, "unet"):
        options["unet_config"] = pipeline.unet.config  # to rename sgm's blocks by
    state, *alphas, metadata = type(pipeline).lora_state_dict(
        str(path), local_files_only=True, **options
    )
    return state, (alphas[0] if alphas else None) or {}, metadata


def _pairs_of(
    part: str,
    module: nn.Module,
    state: Mapping[str, Tensor],
    alphas: Mapping[str, Any],
    metadata: Mapping[str, Any] | None,
) -> dict[str, LoraPair]:
    """The updates of one part's layers by the layers' names, float32.

    Raises ValueError for what is no plain LoRA.
    """
    prefix = f"{part}."
    own = {key.removeprefix(prefix): key for key in state if key.startswith(prefix)}
    sides: dict[str, dict[str, Tensor]] = {}
    gains: dict[str, float] = {}
    for renamed, key in _peft_names(part, module, own).items():
        match = _MATRIX.fullmatch(renamed)
        if match is None:
            raise ValueError(f"{key!r} is neither the down nor the up matrix of a LoRA")
        name, side = match["module"], match["side"]
        sides.setdefault(name, {})[side] = state[key]
        if side == "A":
            config = {k.removeprefix(prefix): v for k, v in (metadata or {}).items()}
            gains[name] = _gain(name, key, state[key].shape[0], alphas, config)
    for name, pair in sides.items():
        if len(pair) != 2:
            raise ValueError(f"{part}.{name} has only one of its two matrices")
    return {
        name: LoraPair(pair["A"].float(), pair["B"].float() * gains[name])
        for name, pair in sides.items()
    }


def _peft_names(part: str, module: nn.Module, own: dict[str, str]) -> dict[str, str]:
    """``own`` with its keys in PEFT's naming, as diffusers renames them for the part."""
    if not own or all("lora_A" in key or "lora_B" in key for key in own):
        renamed: dict[str, str] = own
    elif part.startswith("text_encoder"):
        renamed = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
    else:
        renamed = convert_unet_state_dict_to_peft(own)
    if part.startswith("text_encoder") and not hasattr(module, "text_model"):
        renamed = {key.removeprefix("text_model."): value for key, value in renamed.items()}
    return renamed


def _gain(
    name: str, key: str, rank: int, alphas: Mapping[str, Any], config: Mapping[str, Any]
) -> float:
    """alpha / rank, or alpha / sqrt(rank) for rsLoRA (arXiv:2312.03732); without an alpha 1."""
    for mark in (".lora_A", ".lora."):
        key = key.split(mark)[0]
    for alpha_key in (f"{key}.alpha", f"{key.removesuffix('.down.weight')}.alpha"):
        if alpha_key in alphas:
            return float(alphas[alpha_key]) / rank
    if "lora_alpha" not in config:
        return 1.0
    patterns = config.get("alpha_pattern") or {}
    fits = (alpha for part, alpha in patterns.items() if re.fullmatch(rf"(.*\.)?({part})", name))
    alpha = float(next(fits, config["lora_alpha"]))
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _target(path: Path, part: str, module: nn.Module, name: str) -> LoraTarget | None:
    """The layer of that name, or None where there is none, which diffusers passes over too."""
    try:
        target = module.get_submodule(name)
    except AttributeError:
        logger.warning("%s: the model has no layer %s.%s; it is left out.", path, part, name)
        return None
    if not isinstance(target, nn.Linear | nn.Conv2d):
        raise ValueError(f"{part}.{name} is a {type(target).__name__}, not a linear layer")  # noqa: TRY004
    return target


def _fitted(path: Path, name: str, target: LoraTarget, pair: LoraPair) -> LoraPair:
    """The pair where and as its layer computes. Raises LoraLoadError if the shapes differ."""
    rank = pair.down.shape[0]
    wanted: tuple[tuple[int, ...], tuple[int, ...]]
    if isinstance(target, nn.Linear):
        wanted = (rank, target.in_features), (target.out_features, rank)
    else:
        wanted = (
            (rank, target.in_channels, *target.kernel_size),
            (target.out_channels, rank, 1, 1),
        )
    found = tuple(pair.down.shape), tuple(pair.up.shape)
    if found != wanted or getattr(target, "groups", 1) != 1:
        raise LoraLoadError(
            f"{str(path)!r} has matrices of {found[0]} and {found[1]} for {name}, which takes"
            f" {wanted[0]} and {wanted[1]}; choose a LoRA that was trained for this model."
        )
    device, dtype = target.weight.device, target.weight.dtype
    return LoraPair(pair.down.to(device, dtype), pair.up.to(device, dtype))
