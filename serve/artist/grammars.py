"""Which grammar a model has."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from serve.artist.grammar import Grammar
from serve.settings import Settings

FILE_NAME = "grammar.toml"
"""In a model's own folder."""
GENERAL = Path(__file__).parent / "grammars" / "general.toml"


def grammar_of(settings: Settings, model: str) -> Grammar:
    """The one of the settings, else that in the model's folder, else the general one.

    Raises:
        GrammarError: the file cannot be used.
    """
    given = settings.artist.grammars.get(model)
    if given is not None:
        return _read(given)
    own = Path(settings.served[model].path) / FILE_NAME
    return _read(own) if own.is_file() else _read(GENERAL)


_read = cache(Grammar.read)
