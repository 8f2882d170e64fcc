"""Speed-ups by name, as flags give them. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import Any, get_type_hints

from pipelines.diffusion.speed.acceleration import Acceleration, AttentionBackend, Float8, Use

EAGER = Acceleration(
    attention=AttentionBackend.SDPA,
    channels_last=Use.NEVER,
    vae_channels_last=Use.NEVER,
    compile=Use.NEVER,
    cuda_graphs=Use.NEVER,
    decode_stream=Use.NEVER,
)
"""As diffusers makes it."""


def with_speed_ups(base: Acceleration, asked: Iterable[str]) -> Acceleration:
    """``asked`` are like ``compile=always``, fields of Acceleration. Raises ValueError."""
    changes = {}
    for each in asked:
        name, _, value = each.partition("=")
        kind = get_type_hints(Acceleration).get(name)
        if kind is None:
            known = ", ".join(Acceleration.__slots__)
            raise ValueError(f"there is no speed-up {name!r}; choose of {known}.")
        changes[name] = _read(kind, value)
    return replace(base, **changes)


def names_of_what_is_on(acceleration: Acceleration) -> list[str]:
    """The attention backend, and each speed-up that does anything."""
    switches = [
        name for name in Acceleration.__slots__ if getattr(acceleration, name) is Use.ALWAYS
    ]
    lossy = [f"float8 {acceleration.float8}"] if acceleration.float8 is not Float8.NEVER else []
    return [acceleration.attention.value, *switches, *lossy]


def _read(kind: Any, value: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, StrEnum | float):
        return kind(value)
    numbers = tuple(int(number) for number in value.split(","))
    return numbers if kind == tuple[int, ...] else numbers[0]
