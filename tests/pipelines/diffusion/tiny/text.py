"""Text encoders with random weights, and tokenizers that read letter by letter."""

from __future__ import annotations

import string
from typing import Any

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    Gemma2Config,
    GemmaTokenizer,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

_VOCABULARY = ["<pad>", "</s>", "<unk>", "▁", *string.ascii_lowercase]
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "<|im_end|>{% endfor %}"
)


def t5_tokenizer() -> T5Tokenizer:
    return T5Tokenizer(vocab=[(token, -float(i)) for i, token in enumerate(_VOCABULARY)])


def t5_encoder(width: int) -> T5EncoderModel:
    """Embeddings of (rows, tokens, width)."""
    return T5EncoderModel(t5_config(width)).eval()


def t5_config(width: int) -> T5Config:
    return T5Config(
        vocab_size=len(_VOCABULARY),
        d_model=width,
        d_kv=8,
        d_ff=width,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )


def gemma_tokenizer() -> GemmaTokenizer:
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *string.ascii_lowercase]
    return GemmaTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])


def gemma2_config(width: int) -> Gemma2Config:
    return Gemma2Config(
        vocab_size=32,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=4,
        max_position_embeddings=512,
    )


def qwen_tokenizer(**options: Any) -> Qwen2Tokenizer:
    """With a chat template, which the pipelines ask for."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "Ġ", "Ċ", *string.ascii_lowercase]
    return Qwen2Tokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[],
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=_CHAT_TEMPLATE,
        **options,
    )


def qwen3_config(width: int, layers: int = 2) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=32,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
        pad_token_id=0,
    )


def qwen_2_5_vl(width: int) -> Qwen2_5_VLForConditionalGeneration:
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "vocab_size": 32,
                "hidden_size": width,
                "intermediate_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "rope_scaling": {
                    "mrope_section": [1, 1, width // 4 - 2],
                    "rope_type": "default",
                    "type": "default",
                },
                "rope_theta": 1000000.0,
                "bos_token_id": 0,
                "eos_token_id": 0,
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": width,
            },
            vision_end_token_id=28,
            vision_start_token_id=29,
            vision_token_id=30,
        )
    ).eval()


def fast_tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """As GLM and Llama 3 come: of no class of their own, and with a token before each text."""
    tokens = ["<pad>", "<eos>", "<unk>", "<bos>", " ", *string.ascii_lowercase]
    letters = Tokenizer(
        models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>")
    )
    letters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    letters.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokens.index("<bos>"))]
    )
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=letters, **special | options)
