"""What is measured: a model as a family of ours and as diffusers' own pipeline, weights shared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch

from pipelines.bench.architectures import text
from pipelines.bench.architectures.table import build_pipeline
from pipelines.bench.clock import Clock, CpuClock, WallClock, seconds_of
from pipelines.bench.errors import BenchError
from pipelines.bench.plan import ArchitectureName, ClockName, Plan
from pipelines.diffusion.catalog import ModelDescription, describe
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.families.registry import model_class
from pipelines.diffusion.loading import choose_device, choose_dtype, load_model
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.speed.accelerate import accelerate
from pipelines.embedded import MODEL_PATH


@dataclass(frozen=True, slots=True)
class Subject:
    """``width`` and ``height`` are pixels; ``notes`` are what a reader must know of it."""

    name: str
    family: Family
    width: int
    height: int
    clock: Clock = field(default_factory=WallClock)
    notes: list[str] = field(default_factory=list)

    @property
    def pipeline(self) -> Any:
        """diffusers' own."""
        return self.family.pipeline

    @property
    def denoiser(self) -> Any:
        """The UNet or transformer."""
        return self.family.denoiser

    @property
    def device(self) -> torch.device:
        return self.family.device

    def seconds_of(self, work: Callable[[], object]) -> float:
        """From an idle device to an idle device."""
        return seconds_of(work, self.device, self.clock)

    def engine(self, max_batch: int) -> DiffusionEngine:
        return DiffusionEngine(self.family, max_batch, self.clock.now)

    def ask(
        self, steps: int, guidance_scale: float = 5.0, seed: int = 0, prompt: str = "a red fox"
    ) -> SamplingParams:
        return SamplingParams(
            prompt=prompt,
            width=self.width,
            height=self.height,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            seed=seed,
        )


def open_subject(plan: Plan) -> Subject:
    """Loads or builds the model. Raises ModelLoadError or BenchError."""
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    if plan.architecture is None:
        source = plan.model or str(MODEL_PATH)
        loaded = load_model(source, plan.device, plan.dtype, acceleration=plan.acceleration)
        if not isinstance(loaded, Family):
            raise BenchError(f"{source!r} is called whole; there are no steps to measure.")
        family = loaded
        name, notes = "embedded" if plan.model is None else source, []
    else:
        device = choose_device(plan.device)
        dtype = choose_dtype(plan.dtype, device)
        pipeline = build_pipeline(plan.architecture, device, dtype, narrow=plan.narrow)
        family = family_of(pipeline)
        accelerate(family, plan.acceleration)
        name, notes = plan.architecture.value, _notes(plan.architecture)
    family.pipeline.set_progress_bar_config(disable=True)
    return Subject(
        name=name,
        family=family,
        width=plan.size or family.description.default_width,
        height=plan.size or family.description.default_height,
        clock=_clock(plan, family.device),
        notes=notes,
    )


def family_of(pipeline: Any) -> Family:
    """The registered family over a pipeline in memory, on its device already."""
    family = model_class(type(pipeline).__name__)(pipeline, describe_pipeline(pipeline))
    return cast("Family", family)


def describe_pipeline(pipeline: Any) -> ModelDescription:
    """As of a folder that ``save_pretrained`` wrote; only the configurations are written here."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pipeline.save_config(folder)
        for name in ("unet", "transformer", "vae", "scheduler"):
            if name in pipeline.components:
                pipeline.components[name].save_config(folder / name)
        return describe(folder)


def _clock(plan: Plan, device: torch.device) -> Clock:
    if plan.clock is ClockName.WALL:
        return WallClock()
    if device.type != "cpu" or torch.get_num_threads() != 1:
        raise BenchError("The CPU's clock counts one thread; add --device cpu --threads 1.")
    return CpuClock()


def _notes(architecture: ArchitectureName) -> list[str]:
    published = "" if architecture is ArchitectureName.SMALL else " of the published configuration"
    return [f"Denoiser and VAE{published} have random weights.", text.NOTE]
