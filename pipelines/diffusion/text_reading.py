"""What a pipeline's tokenizers cut off, found where they are asked to.

A pipeline decides by itself how it reads a prompt: by one tokenizer or four, at lengths of its own,
within a template. So what the tokenizers are asked is recorded, instead of computed once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from pipelines.diffusion.request import PromptReading, TextReading


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A text that a tokenizer was given, and how much of it the text encoder got.

    It had ``place``, from 0, among the ``together`` texts that it was given with.
    """

    text: str
    reading: TextReading
    place: int = 0
    together: int = 1


_OBSERVED = "_tells_what_it_cuts"
_recorded: ContextVar[list[TokenizedText] | None] = ContextVar("recorded", default=None)


@contextmanager
def recorded_texts() -> Iterator[list[TokenizedText]]:
    """Records what observed tokenizers are asked to cut, in this context, until it ends."""
    texts_read: list[TokenizedText] = []
    token = _recorded.set(texts_read)
    try:
        yield texts_read
    finally:
        _recorded.reset(token)


def observe_tokenizers(pipeline: Any) -> None:
    """Have the pipeline's tokenizers record what they read, as ``recorded_texts`` asks."""
    for part in pipeline.components.values():
        if isinstance(part, PreTrainedTokenizerBase) and not hasattr(part, _OBSERVED):
            _observe(part)


def _observe(tokenizer: Any) -> None:
    kind = type(tokenizer)

    def call(self: Any, text: Any = None, *args: Any, **options: Any) -> Any:
        texts_read = _recorded.get()
        texts = [text] if isinstance(text, str) else text
        if texts_read is not None and options.get("truncation") and _are_texts(texts):
            most = options.get("max_length") or self.model_max_length
            special = options.get("add_special_tokens", True)
            texts_read += _readings(kind, self, texts, most, special=special)
        return kind.__call__(self, text, *args, **options)

    # Calls are looked up in the class; that of a pipeline's part is asked for by `isinstance`.
    tokenizer.__class__ = type(kind.__name__, (kind,), {"__call__": call, _OBSERVED: True})


def _are_texts(texts: Any) -> bool:
    return isinstance(texts, list) and all(isinstance(each, str) for each in texts)


def _readings(
    kind: Any, tokenizer: Any, texts: Sequence[str], most: int, *, special: bool
) -> list[TokenizedText]:
    """``most`` tokens reach the text encoder; with ``special`` ones, which are not counted."""

    def lengths(*, special: bool) -> list[int]:
        read = kind.__call__(
            tokenizer,
            texts,
            add_special_tokens=special,
            truncation=False,
            padding=False,
            verbose=False,
        )
        return [len(each) for each in read["input_ids"]]

    counts = lengths(special=False)
    added = lengths(special=True)[0] - counts[0] if special and counts else 0
    return [
        TokenizedText(text, TextReading(count, min(count, max(0, most - added))), place, len(texts))
        for place, (text, count) in enumerate(zip(texts, counts, strict=True))
    ]


def best_reading(texts_read: Sequence[TokenizedText]) -> TextReading | None:
    """That of the text encoder which read the text whole, else of the one that read most."""
    readings = [each.reading for each in texts_read]
    return max(readings, key=lambda each: (not each.cut, each.read), default=None)


def readings_of_rows(
    texts_read: Sequence[TokenizedText], prompts: Sequence[tuple[str, str]]
) -> list[PromptReading]:
    """For each prompt and negative prompt of a call how they were read.

    Pipelines clean texts up, or put them into templates: a text belongs to whichever is in it.
    Texts that come together are in the order of the rows, the negative ones apart or behind.
    """
    rows = len(prompts)
    return [
        PromptReading(
            *(
                best_reading(
                    [
                        each
                        for each in texts_read
                        if (each.together % rows or each.place % rows == row)
                        and _owner(each.text, pair) == which
                    ]
                )
                for which in range(2)
            )
        )
        for row, pair in enumerate(prompts)
    ]


def _owner(text: str, pair: tuple[str, str]) -> int | None:
    """Which of the two the text was made of: the longer one that is in it."""
    plain = [" ".join(each.lower().split()) for each in (text, *pair)]
    within = [
        (len(each), -place)
        for place, each in enumerate(plain[1:])
        if (each and each in plain[0]) or each == plain[0]
    ]
    return -max(within)[1] if within else None
