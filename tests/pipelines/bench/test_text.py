from __future__ import annotations

import torch

from pipelines.bench.architectures import text


def test_clip() -> None:
    tokens = text.clip_tokenizer()("a red fox", padding="max_length", return_tensors="pt")
    assert tokens["input_ids"].shape == (1, 77)
    encoder = text.projecting_clip_text_encoder(128)
    with torch.no_grad():
        encoded = encoder(tokens["input_ids"], output_hidden_states=True)
    assert encoded.hidden_states[-2].shape == (1, 77, 128)
    assert encoded.text_embeds.shape == (1, 128)


def test_t5() -> None:
    tokenizer = text.t5_tokenizer(16)
    tokens = tokenizer("a red fox " * 9, padding="max_length", truncation=True, return_tensors="pt")
    assert tokens["input_ids"].shape == (1, 16)
    with torch.no_grad():
        encoded = text.t5_encoder(64)(tokens["input_ids"])
    assert encoded.last_hidden_state.shape == (1, 16, 64)
