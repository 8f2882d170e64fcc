"""Stable Diffusion 3 and 3.5: two CLIP text encoders, perhaps a T5, a transformer and a VAE.

The reference is diffusers' ``StableDiffusion3Pipeline`` with its image-to-image and inpainting kin,
whose parts are used as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from pipelines.diffusion.catalog import describe, read_index
from pipelines.diffusion.families.packing import Segments, final_norm, joint_block
from pipelines.diffusion.families.rows import Row
from pipelines.diffusion.families.transformer import TransformerFamily
from pipelines.diffusion.pretrained import read_pipeline
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.schedulers import make_scheduler
from pipelines.diffusion.trajectory import TextEmbedding

_T5 = ("text_encoder_3", "tokenizer_3")


def load(
    folder: Path, device: torch.device, dtype: torch.dtype, without: Collection[str] = ()
) -> StableDiffusion3:
    """Loads a diffusers folder; only safetensors are read."""
    index = read_index(folder)
    # diffusers does without the T5 only where told so.
    absent = {part: None for part in _T5 if index.get(part, (None,))[0] is None}
    pipeline = read_pipeline(StableDiffusion3Pipeline, folder, device, dtype, without, **absent)
    return StableDiffusion3(pipeline, describe(folder))


class StableDiffusion3(TransformerFamily):
    """A loaded ``StableDiffusion3Pipeline``.

    A ``guidance_scale`` above 1 is classifier-free guidance by a second row, for the
    ``negative_prompt`` or the empty one. A folder without the T5 encoder (its index
    has no ``text_encoder_3``) draws with zeros for that part of the prompt, as in diffusers.

    Inpainting has diffusers' latents, but not its picture: ``StableDiffusion3InpaintPipeline``
    forgets the VAE's shift when it decodes, which discolours what the mask keeps.
    """

    @property
    def _patch_size(self) -> int:
        size: int = self.denoiser.config.patch_size
        return size

    def _embed(self, text: str, clip_skip: int) -> TextEmbedding:
        tokens, _, pooled, _ = self.pipeline.encode_prompt(
            text,
            None,
            None,
            device=self.device,
            do_classifier_free_guidance=False,
            clip_skip=clip_skip or None,
        )
        return TextEmbedding(tokens, pooled)

    def _scheduler(self, params: SamplingParams) -> Any:
        dynamic = self.pipeline.scheduler.config.get("use_dynamic_shifting")
        schedule = {"mu": self._mu(params)} if dynamic else {}
        return make_scheduler(
            params.scheduler,
            self.pipeline.scheduler,
            params.num_inference_steps,
            self.device,
            **schedule,
        )

    def _uniform(self, rows: Sequence[Row]) -> Sequence[Tensor]:
        output: Tensor = self.denoiser(
            hidden_states=torch.cat([row.trajectory.model_input for row in rows]),
            timestep=self._timesteps(rows),
            encoder_hidden_states=torch.cat([row.text.tokens for row in rows]),
            pooled_projections=self._pooled(rows),
            return_dict=False,
        )[0]
        return torch.split(output, 1)

    def _packed(self, rows: Sequence[Row]) -> Sequence[Tensor]:
        """diffusers' ``SD3Transformer2DModel`` over rows of different sizes."""
        transformer = self.denoiser
        latents = [row.trajectory.model_input for row in rows]
        pictures = [transformer.pos_embed(each) for each in latents]
        segments = Segments.of([each.shape[1] for each in pictures], self.device)
        with segments.running():
            hidden = torch.cat(pictures, dim=1)
            text = transformer.context_embedder(torch.cat([row.text.tokens for row in rows]))
            embedding = transformer.time_text_embed(self._timesteps(rows), self._pooled(rows))
            for block in transformer.transformer_blocks:
                hidden, text = joint_block(block, hidden, text, embedding, segments)
            hidden = final_norm(transformer.norm_out, hidden, embedding, segments)
            tokens = segments.split(transformer.proj_out(hidden))
        return [self._latents(*each) for each in zip(tokens, latents, strict=True)]

    def _latents(self, tokens: Tensor, like: Tensor) -> Tensor:
        """(1, tokens, channels of a patch) to latents of the height and width of ``like``."""
        patch = self._patch_size
        rows, columns = like.shape[-2] // patch, like.shape[-1] // patch
        grid = tokens.reshape(1, rows, columns, patch, patch, -1)
        return grid.permute(0, 5, 1, 3, 2, 4).reshape(1, -1, rows * patch, columns * patch)
