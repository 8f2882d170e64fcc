"""What the artist asks the embedded model for: what it was taught, and what it draws well."""

from __future__ import annotations

import json
from itertools import islice

import pytest
from transformers import CLIPTokenizer

from loadtests.recognised import look
from pipelines.embedded import MODEL_PATH
from pipelines.embedded.train.captions import article
from pipelines.embedded.train.concepts import COLOURS, concepts
from serve.artist.grammar import SUBJECT, Grammar
from serve.artist.grammars import FILE_NAME, grammar_of
from serve.artist.writer import Writer
from serve.settings import Settings

GRAMMAR = Grammar.read(MODEL_PATH / FILE_NAME)


def test_it_is_the_models_own() -> None:
    settings = Settings()
    assert grammar_of(settings, settings.model.name) == GRAMMAR
    assert not GRAMMAR.open_themes


def test_it_knows_the_models_concepts_and_colours_and_nothing_else() -> None:
    card = json.loads((MODEL_PATH / "concepts.json").read_text())
    subjects = {option.text: option for option in GRAMMAR.slots[SUBJECT]}
    assert subjects.keys() == card["concepts"].keys()
    for name, option in subjects.items():
        assert list(option.synonyms) == card["concepts"][name]
        assert option.plural == (article(name) == name)
    for slot in ("palette", "background"):
        assert [option.text for option in GRAMMAR.slots[slot]] == list(COLOURS)


def test_prompts_are_as_the_captions_are_and_are_read_to_their_end() -> None:
    tokenizer = CLIPTokenizer.from_pretrained(MODEL_PATH / "tokenizer")
    names = {article(concept.name) for concept in concepts()}
    found = set()
    for seed in range(500):
        [written] = islice(Writer(GRAMMAR, seed, None, (), 0.25), 1)
        assert len(tokenizer(written.prompt).input_ids) <= 16, written.prompt
        found.add(written.prompt)
    assert found & names  # plain ones
    assert any(f" on {article(colour)} background" in each for each in found for colour in COLOURS)
    assert len(found) > 400


@pytest.mark.model
def test_its_pictures_are_recognised_as_what_they_say() -> None:
    """The whole measure is `python -m loadtests.recognised`; docs/artist.md has its figure."""
    seen = look(24, seed=77_000)
    assert sum(each.recognised for each in seen) >= 19  # four fifths
