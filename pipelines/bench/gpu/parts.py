"""What there is to measure on a GPU, the most valuable first. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from pipelines.bench.plan import ArchitectureName, ArmName, Plan
from pipelines.bench.speed_ups import EAGER, with_speed_ups
from pipelines.diffusion.speed.acceleration import Acceleration

_TINY_SIZE = 64
_PARITY_SIZE = 512
_PICTURES = (1, 8)

ARCHITECTURES = (
    ArchitectureName.SD15,
    ArchitectureName.SDXL,
    ArchitectureName.FLUX_DEV,
    ArchitectureName.SD3_MEDIUM,
    ArchitectureName.Z_IMAGE,
)
_UNETS = (ArchitectureName.SD15, ArchitectureName.SDXL)


class Kind(StrEnum):
    """What a part measures."""

    PARITY = "parity"
    SPEED = "speed"
    MEMORY = "memory"
    TRAFFIC = "traffic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One row, measured by a process of its own.

    ``speed_ups`` are added to eager, or, where ``auto``, to what is on by default. ``weight`` is
    its share of the time.
    """

    kind: Kind
    architecture: ArchitectureName
    label: str = "eager"
    speed_ups: tuple[str, ...] = ()
    auto: bool = False
    needs_cuda: bool = False
    weight: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.architecture}-{self.label}"

    def plan(self, device: str, quick: bool, seconds: float) -> Plan:
        """In bfloat16; a ``quick`` one is of a tiny model, and its figures mean nothing."""
        rows = 1 if self.architecture is ArchitectureName.FLUX_DEV else 2
        eager, traffic = self.label == "eager", self.kind is Kind.TRAFFIC
        acceleration = with_speed_ups(Acceleration() if self.auto else EAGER, self.speed_ups)
        if not traffic:  # whose batches come in all sizes
            buckets = tuple(rows * pictures for pictures in _PICTURES)
            acceleration = replace(acceleration, batch_buckets=buckets)
        plan = Plan(
            architecture=self.architecture,
            device=device,
            dtype="bfloat16",
            acceleration=acceleration,
            size=_PARITY_SIZE if self.kind is Kind.PARITY else None,
            batches=(1, 2, 4, 8, 16) if eager else _PICTURES,
            arms=tuple(ArmName) if traffic else (),
            loads=(0.6,),
            minutes=seconds / 60,
        )
        return replace(plan.quick(), narrow=True, size=_TINY_SIZE) if quick else plan


_SINGLE = {
    "cuda-graphs": ("cuda_graphs=always",),
    "compile": ("compile=always",),
    "flash3": ("attention=flash3",),
    "float8-dynamic": ("float8=dynamic",),
    "decode-stream": ("decode_stream=always",),
    "channels-last": ("channels_last=always",),
    "xformers": ("attention=xformers",),
    "float8-weights": ("float8=weights",),
}
_ANYWHERE = ("channels-last",)


def parts(quick: bool) -> list[Part]:
    """In their order; where ``quick`` the single speed-ups and the traffic of one model alone."""
    return [
        *(Part(kind=Kind.PARITY, architecture=each, weight=1.5) for each in ARCHITECTURES),
        *(Part(kind=Kind.SPEED, architecture=each, weight=2) for each in ARCHITECTURES),
        Part(kind=Kind.MEMORY, architecture=ArchitectureName.SDXL, needs_cuda=True),
        *(_together(each, "all") for each in ARCHITECTURES),
        *_singly(ARCHITECTURES[:1] if quick else ARCHITECTURES),
        *(
            replace(_together(each, "all"), kind=Kind.TRAFFIC, needs_cuda=False, weight=4)
            for each in (_UNETS[:1] if quick else _UNETS)
        ),
        *_in_float8(),
    ]


def _together(architecture: ArchitectureName, label: str, *speed_ups: str) -> Part:
    return Part(
        kind=Kind.SPEED,
        architecture=architecture,
        label=label,
        speed_ups=speed_ups,
        auto=True,
        needs_cuda=True,
        weight=3,
    )


def _singly(architectures: tuple[ArchitectureName, ...]) -> Iterator[Part]:
    for label, speed_ups in _SINGLE.items():
        for architecture in architectures:
            if label == "channels-last" and architecture not in _UNETS:
                continue
            if label == "cuda-graphs" and architecture is ArchitectureName.Z_IMAGE:
                continue
            yield Part(
                kind=Kind.SPEED,
                architecture=architecture,
                label=label,
                speed_ups=speed_ups,
                needs_cuda=label not in _ANYWHERE,
                weight=2.5 if label == "compile" else 1,
            )


def _in_float8() -> Iterator[Part]:
    """What it adds to all others, and what it costs in exactness."""
    for architecture in (ArchitectureName.FLUX_DEV, ArchitectureName.SD3_MEDIUM):
        yield _together(architecture, "all-float8-dynamic", "float8=dynamic")
        for label in ("float8-dynamic", "float8-weights"):
            yield Part(
                kind=Kind.PARITY,
                architecture=architecture,
                label=label,
                speed_ups=_SINGLE[label],
                needs_cuda=True,
            )
