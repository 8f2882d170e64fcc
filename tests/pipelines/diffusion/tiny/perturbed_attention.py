"""Stable Diffusion with perturbed-attention guidance: a pipeline without a family of its own."""

from __future__ import annotations

from diffusers import StableDiffusionPAGPipeline

from tests.pipelines.diffusion.tiny import stable_diffusion


def build_pipeline() -> StableDiffusionPAGPipeline:
    """It replaces attention processors of the UNet during a call."""
    parts = stable_diffusion.build_pipeline().components
    return StableDiffusionPAGPipeline(
        **parts, requires_safety_checker=False, pag_applied_layers=["mid"]
    )
