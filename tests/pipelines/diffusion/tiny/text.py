"""A T5 text encoder with random weights, and a tokenizer that reads letter by letter."""

from __future__ import annotations

from transformers import T5Config, T5EncoderModel, T5Tokenizer

_VOCABULARY = ["<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz"]


def t5_tokenizer() -> T5Tokenizer:
    return T5Tokenizer(vocab=[(token, -float(i)) for i, token in enumerate(_VOCABULARY)])


def t5_encoder(width: int) -> T5EncoderModel:
    """Embeddings of (rows, tokens, width)."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(_VOCABULARY),
            d_model=width,
            d_kv=8,
            d_ff=width,
            num_layers=1,
            num_heads=2,
            feed_forward_proj="gated-gelu",
        )
    ).eval()
