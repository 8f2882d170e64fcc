"""Text encoders of the right output width, but one layer deep, and tokenizers of 26 letters.

Text is encoded once a picture and is no part of a denoising step, so that a bench of steps needs
neither the published depth nor a vocabulary from the hub.
"""

from __future__ import annotations

from typing import Any

from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_CLIP_VOCABULARY = ["<|startoftext|>", "<|endoftext|>", *_LETTERS, *(f"{c}</w>" for c in _LETTERS)]
_T5_VOCABULARY = ["<pad>", "</s>", "<unk>", "▁", *_LETTERS]
_QWEN_MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_QWEN_VOCABULARY = [*_QWEN_MARKS, "Ġ", *_LETTERS]
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
)

CLIP_TOKENS = 77

NOTE = "Text encoders are one layer deep, with a vocabulary of letters: no part of a step."


def clip_tokenizer(tokens: int = CLIP_TOKENS) -> CLIPTokenizer:
    """Reads letter by letter; cuts and pads to ``tokens``."""
    vocabulary = {token: i for i, token in enumerate(_CLIP_VOCABULARY)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=tokens)


def clip_text_encoder(width: int, tokens: int = CLIP_TOKENS) -> CLIPTextModel:
    """Embeddings of (rows, tokens, width), and a pooled one of (rows, width)."""
    return CLIPTextModel(CLIPTextConfig(**_clip(width, tokens))).eval()


def projecting_clip_text_encoder(width: int) -> CLIPTextModelWithProjection:
    """The same, its pooled embedding projected to ``width`` as well."""
    return CLIPTextModelWithProjection(CLIPTextConfig(**_clip(width, CLIP_TOKENS))).eval()


def t5_tokenizer(tokens: int) -> T5Tokenizer:
    """Reads letter by letter; pads to ``tokens``."""
    return T5Tokenizer(
        vocab=[(token, -float(i)) for i, token in enumerate(_T5_VOCABULARY)],
        model_max_length=tokens,
    )


def t5_encoder(width: int) -> T5EncoderModel:
    """Embeddings of (rows, tokens, width)."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(_T5_VOCABULARY),
            d_model=width,
            d_kv=64,
            d_ff=width,
            num_layers=1,
            num_heads=8,
            feed_forward_proj="gated-gelu",
        )
    ).eval()


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Reads letter by letter, within a chat template."""
    return Qwen2Tokenizer(
        vocab={token: i for i, token in enumerate(_QWEN_VOCABULARY)},
        merges=[],
        additional_special_tokens=_QWEN_MARKS[1:],
        chat_template=_CHAT_TEMPLATE,
    )


def qwen_encoder(width: int) -> Qwen3Model:
    """Embeddings of (rows, tokens, width); the layer's input is what pipelines read."""
    return Qwen3Model(
        Qwen3Config(
            vocab_size=len(_QWEN_VOCABULARY),
            hidden_size=width,
            intermediate_size=width,
            num_hidden_layers=1,
            num_attention_heads=width // 64,
            num_key_value_heads=width // 64,
            head_dim=64,
            max_position_embeddings=1024,
            pad_token_id=0,
        )
    ).eval()


def _clip(width: int, tokens: int) -> dict[str, Any]:
    return {
        "vocab_size": len(_CLIP_VOCABULARY),
        "hidden_size": width,
        "intermediate_size": width,
        "projection_dim": width,
        # SDXL and SD 3 read the last but one of the layers' outputs, so one layer gives them two.
        "num_hidden_layers": 1,
        "num_attention_heads": max(1, width // 64),
        "max_position_embeddings": tokens,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
