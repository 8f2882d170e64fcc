"""The raw denoiser: its forward passes alone, with the very inputs that the engine gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from pipelines.bench.dtype import default_dtype
from pipelines.bench.subject import Subject


@dataclass(frozen=True, slots=True)
class RawForward:
    """The denoiser's calls within one ``Family.denoise``, to be made again by themselves."""

    denoiser: Any
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]

    def __call__(self) -> None:
        with torch.inference_mode():
            for positional, named in self.calls:
                self.denoiser(*positional, **named)

    def flops(self) -> int:
        """Floating-point operations (a multiply-add is two), counted on the meta device."""
        with torch.device("meta"), default_dtype(self.denoiser.dtype):
            shape = type(self.denoiser).from_config(self.denoiser.config).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            for call in self.calls:
                positional, named = tree_map_only(torch.Tensor, _on_meta, call)
                shape(*positional, **named)
        flops: int = counter.get_total_flops()
        return flops


@torch.inference_mode()
def record_forward(subject: Subject, pictures: int) -> RawForward:
    """Of a step batch of so many guided pictures."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def keep(_: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        calls.append((positional, named))

    family = subject.family
    asked = [subject.ask(4, seed=seed) for seed in range(pictures)]
    trajectories = [family.prepare(each, family.encode(each)) for each in asked]
    hook = subject.denoiser.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        family.denoise(trajectories)
    finally:
        hook.remove()
    return RawForward(subject.denoiser, calls)


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor, device="meta")
