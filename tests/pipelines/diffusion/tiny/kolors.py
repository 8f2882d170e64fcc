"""Kolors with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

import io
import string
from pathlib import Path
from tempfile import TemporaryDirectory

import sentencepiece
import torch
from diffusers import KolorsPipeline, UNet2DConditionModel
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel
from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer

from tests.pipelines.diffusion.tiny.stable_diffusion import UNET, scheduler, vae

_PLACE = TemporaryDirectory()  # which the tokenizer copies its file from when it is saved


def build_pipeline() -> KolorsPipeline:
    torch.manual_seed(7)
    return KolorsPipeline(
        vae=vae(),
        text_encoder=_text_encoder(),
        tokenizer=_tokenizer(),
        unet=UNet2DConditionModel(
            **UNET
            | {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 4,
                "encoder_hid_dim": 16,
                "encoder_hid_dim_type": "text_proj",
                "projection_class_embeddings_input_dim": 16 + 6 * 4,
            }
        ).eval(),
        scheduler=scheduler(),
    )


def _text_encoder() -> ChatGLMModel:
    encoder = ChatGLMModel(
        ChatGLMConfig(
            num_layers=2,
            padded_vocab_size=64,
            hidden_size=16,
            ffn_hidden_size=16,
            kv_channels=8,
            num_attention_heads=2,
            multi_query_attention=True,
            multi_query_group_num=1,
            seq_length=256,
            rmsnorm=True,
            add_qkv_bias=True,
            original_rope=True,
        )
    ).eval()
    for parameter in encoder.parameters():  # which it leaves as the memory was
        torch.nn.init.normal_(parameter, std=0.1)
    return encoder


def _tokenizer() -> ChatGLMTokenizer:
    """One token a letter."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*string.ascii_lowercase, string.ascii_lowercase]),
        model_writer=written,
        model_type="char",
        vocab_size=30,
        minloglevel=2,
    )
    path = Path(_PLACE.name) / "tokenizer.model"
    path.write_bytes(written.getvalue())
    return ChatGLMTokenizer(str(path))
