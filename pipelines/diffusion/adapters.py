"""What a request may ask of LoRAs and ControlNets by name. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from pipelines.diffusion.errors import RequestError
from pipelines.diffusion.request import LoraScale

MAX_SCALE = 10.0
"""Either way. What was trained at 1 is long past a picture there, and not yet past the numbers."""


def check_loras(asked: Sequence[LoraScale], known: Collection[str]) -> None:
    """Raises RequestError for LoRAs that are not loaded, named twice, or scaled too far."""
    names = [each.name for each in asked]
    for each in asked:
        if each.name not in known:
            raise RequestError(
                f"There is no LoRA {each.name[:100]!r}; this model has {_listed(known)}.", "loras"
            )
        if names.count(each.name) > 1:
            raise RequestError(f"LoRA {each.name!r} is named twice; add up its scales.", "loras")
        _check_scale(f"LoRA {each.name!r}", each.scale, "loras")


def check_control(
    name: str, scale: float, start: float, end: float, known: Collection[str]
) -> None:
    """Raises RequestError for a ControlNet that is not loaded, scaled too far, or never acts."""
    if name not in known:
        raise RequestError(
            f"There is no ControlNet {name[:100]!r}; this model has {_listed(known)}.",
            "control.name",
        )
    _check_scale(f"ControlNet {name!r}", scale, "control.scale")
    if not 0 <= start < end <= 1:
        raise RequestError(
            f"The ControlNet acts from {start:g} to {end:g}; give shares of the steps, the first"
            " below the second.",
            "control.start",
        )


def _check_scale(what: str, scale: float, param: str) -> None:
    if not math.isfinite(scale) or abs(scale) > MAX_SCALE:
        raise RequestError(
            f"{what} has a scale of {scale:g}; give one from {-MAX_SCALE:g} to {MAX_SCALE:g}.",
            param,
        )


def _listed(known: Collection[str]) -> str:
    return ", ".join(map(repr, known)) or "none, so leave it out"
