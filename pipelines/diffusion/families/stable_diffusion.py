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

    def _embed(self, text: str, clip_skip: int) -> TextEmbedding:
        if not clip_skip:
            return TextEmbedding(self.pipeline.encode_prompt(text, self.device, 1, False)[0])
        # diffusers 0.42 asks for `text_encoder.text_model`, which transformers 5 has not.
        encoder, tokenizer = self.pipeline.text_encoder, self.pipeline.tokenizer
        read = tokenizer(
            text,
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        masked = getattr(encoder.config, "use_attention_mask", False)
        layers = encoder(
            read.input_ids,
            attention_mask=read.attention_mask if masked else None,
            output_hidden_states=True,
        ).hidden_states
        return TextEmbedding(encoder.final_layer_norm(layers[-1 - clip_skip]))
