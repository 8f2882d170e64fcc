"""Stable Diffusion 1.x and 2.x: a CLIP text encoder, a UNet and a VAE.

The reference is diffusers' ``StableDiffusionPipeline``, whose parts are used as they are.
"""

from __future__ import annotations

from torch import Tensor

from pipelines.diffusion.errors import UnsafePictureError
from pipelines.diffusion.families.unet import UNetFamily
from pipelines.diffusion.trajectory import TextEmbedding


class StableDiffusion(UNetFamily):
    """A loaded ``StableDiffusionPipeline``, or the one for image-to-image or inpainting."""

    def decode(self, latents: Tensor) -> Tensor:
        """As every family, or UnsafePictureError where the model's safety checker refuses."""
        decoded, unsafe = self.pipeline.run_safety_checker(
            self.vae.decode(latents), self.device, self.dtype
        )
        if unsafe is not None and any(unsafe):
            raise UnsafePictureError
        picture: Tensor = (decoded.float() * 0.5 + 0.5).clamp(0, 1)
        return picture

    def _embed(self, text: str) -> TextEmbedding:
        return TextEmbedding(self.pipeline.encode_prompt(text, self.device, 1, False)[0])
