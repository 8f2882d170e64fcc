from __future__ import annotations

from collections.abc import Callable

import torch

from pipelines.diffusion.prompt_cache import PromptCache
from pipelines.diffusion.trajectory import TextEmbedding


def embedding(numbers: int, pooled: int = 0) -> TextEmbedding:
    return TextEmbedding(torch.zeros(1, 1, numbers), torch.zeros(1, pooled) if pooled else None)


def never() -> TextEmbedding:
    raise AssertionError("made again")


def kept(cache: PromptCache, key: str) -> bool:
    """Asks without making a difference where it is kept."""
    try:
        cache.get(key, never)
    except AssertionError:
        return False
    return True


def make(numbers: int) -> Callable[[], TextEmbedding]:
    return lambda: embedding(numbers)


def test_made_once() -> None:
    cache = PromptCache(1000)
    first = cache.get("fox", make(10))
    assert cache.get("fox", never) is first
    assert cache.nbytes == 40


def test_the_least_recently_used_goes() -> None:
    cache = PromptCache(80)
    cache.get("fox", make(10))
    cache.get("owl", make(10))
    cache.get("fox", never)
    cache.get("hare", make(10))
    assert cache.nbytes == 80
    assert not kept(cache, "owl")
    assert kept(cache, "fox")
    assert kept(cache, "hare")


def test_bytes_count_the_pooled_embedding() -> None:
    cache = PromptCache(1000)
    cache.get("fox", lambda: embedding(10, pooled=5))
    assert cache.nbytes == 60


def test_one_too_large_is_handed_out_but_not_kept() -> None:
    cache = PromptCache(80)
    assert cache.get("fox", make(100)).nbytes == 400
    assert cache.nbytes == 0


def test_none_are_kept() -> None:
    cache = PromptCache(0)
    cache.get("fox", make(1))
    assert not kept(cache, "fox")


def test_one_that_cannot_be_made_leaves_no_trace() -> None:
    cache = PromptCache(80)
    assert not kept(cache, "fox")
    cache.get("fox", make(10))
    assert cache.nbytes == 40
