"""PixArt-Sigma with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

from diffusers import PixArtSigmaPipeline

from tests.pipelines.diffusion.tiny import pixart_alpha


def build_pipeline() -> PixArtSigmaPipeline:
    """PixArt-alpha's parts; prompts of up to 300 tokens."""
    return PixArtSigmaPipeline(**pixart_alpha.build_pipeline().components)
