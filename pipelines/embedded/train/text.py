"""The tokenizer, byte-pair encoding in CLIP's format, and the text encoder."""

import json
import random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .captions import Content, caption
from .concepts import COLOURS, concepts
from .icons import TRAIN_PATH, TRAIN_SETS, fetch

MAX_LENGTH = 16
"""Tokens of a prompt, start and end included; what is longer is cut off."""

START, END = "<|startoftext|>", "<|endoftext|>"


def corpus() -> list[str]:
    """Captions of every concept, and the names of all icons for words beyond those."""
    chance = random.Random(0)  # noqa: S311
    colours = [None, *COLOURS]
    lines = [
        caption(Content(concept, chance.choice(colours), chance.choice(colours)), chance)
        for concept in concepts()
        for _ in range(60)
    ]
    return lines + [name.replace("-", " ") for s in TRAIN_SETS for name in fetch(s)]


def train_tokenizer(vocabulary: int = 3000) -> CLIPTokenizer:
    """A tokenizer whose words of the corpus are mostly one token each."""
    blank = CLIPTokenizer().backend_tokenizer
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = blank.normalizer, blank.pre_tokenizer
    tokenizer.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            end_of_word_suffix="</w>",
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[START, END],
            show_progress=False,
        ),
    )
    trained = json.loads(tokenizer.to_str())["model"]
    return CLIPTokenizer(
        vocab=trained["vocab"],
        merges=[tuple(pair) for pair in trained["merges"]],
        model_max_length=MAX_LENGTH,
    )


def tokenizer() -> CLIPTokenizer:
    """The tokenizer, trained on the first call."""
    folder = TRAIN_PATH / "tokenizer"
    if not folder.exists():
        train_tokenizer().save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def build(tokens: CLIPTokenizer) -> CLIPTextModel:
    """An untrained CLIP text encoder of 2 layers of 192 channels."""
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokens),
            hidden_size=192,
            intermediate_size=768,
            projection_dim=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            bos_token_id=tokens.bos_token_id,
            eos_token_id=tokens.eos_token_id,
            pad_token_id=tokens.pad_token_id,
        )
    )
    # What the words are shall count for more at first than where they stand.
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.05)
    return model
