"""Prompts of a grammar."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from serve.artist.errors import GrammarError
from serve.artist.grammar import Grammar
from serve.artist.grammars import GENERAL
from serve.artist.writer import Writer, Written
from serve.http.errors import InvalidValue
from serve.trends.terms import TermKind
from serve.trends.trends import Trend

ANIMALS = Grammar.parse(
    "animals",
    {
        "themes": "closed",
        "composition": ["{a palette subject} on {a background} background", "{a subject}"],
        "palette": ["red", "orange"],
        "background": ["red", "orange", "blue"],
        "subject": [
            "cat",
            {"text": "orange", "themes": ["fruit"]},
            {"text": "pine tree", "themes": ["plants"]},
            {"text": "tree", "themes": ["plants"]},
            {"text": "cherries", "plural": True, "themes": ["fruit"]},
            {"text": "unicorn", "goes_with": {"palette": ["orange"]}},
        ],
    },
)


def write(
    grammar: Grammar = ANIMALS,
    seed: int = 1,
    theme: str | None = None,
    trends: tuple[Trend, ...] = (),
    exploration: float = 0.25,
    count: int = 200,
) -> list[Written]:
    return list(islice(Writer(grammar, seed, theme, trends, exploration), count))


def subjects(written: list[Written]) -> Counter[str]:
    return Counter(each.choices[0].choice for each in written)


def trend(term: str, score: float, rise: float = 0.0) -> Trend:
    return Trend(TermKind.SUBJECT, term, 1, 0, 0, score, rise)


def test_the_same_seed_writes_the_same_and_another_writes_others() -> None:
    assert write(seed=4) == write(seed=4)
    assert [each.prompt for each in write(seed=4)] != [each.prompt for each in write(seed=5)]


def test_prompts_are_put_together_as_the_compositions_say() -> None:
    prompts = {each.prompt for each in write(count=2000)}
    assert {"a cat", "an orange", "cherries", "a unicorn", "a pine tree"} <= prompts
    assert "an orange cat on a blue background" in prompts
    assert "red cherries on an orange background" in prompts
    for prompt in prompts:  # no word twice, and only what goes with the subject
        words = [word for word in prompt.split() if word in ("red", "orange", "blue")]
        assert len(words) == len(set(words)), prompt
        assert not prompt.startswith("a red unicorn")


@pytest.mark.parametrize(
    ("theme", "found"),
    [
        ("fruit", {"orange", "cherries"}),
        ("Fruits", {"orange", "cherries"}),
        ("pine trees", {"pine tree"}),
        ("plants and fruit", {"tree", "pine tree", "orange", "cherries"}),
    ],
)
def test_a_theme_narrows(theme: str, found: set[str]) -> None:
    assert set(subjects(write(theme=theme))) == found


def test_a_theme_may_be_about_the_palette() -> None:
    written = write(theme="red")
    assert all("red" in each.prompt.split() for each in written)
    assert len(subjects(written)) > 3


def test_a_theme_that_goes_with_nothing_else_is_said_as_far_as_it_can_be() -> None:
    prompts = [each.prompt for each in write(theme="red unicorn")]
    assert all("unicorn" in prompt for prompt in prompts)
    assert any("on a red background" in prompt for prompt in prompts)


def test_a_closed_grammar_names_its_themes() -> None:
    with pytest.raises(InvalidValue, match="nothing about 'ships'; take fruit, plants, or leave"):
        write(theme="ships")


def test_an_open_grammar_takes_any_theme_as_its_subject() -> None:
    general = Grammar.read(GENERAL)
    assert all(
        each.prompt.count("a ship of glass") == 1 for each in write(general, 1, "a ship of glass")
    )
    themed = write(general, theme="woodcut of the sea")
    assert all("woodcut" in each.prompt for each in themed if "style" in str(each.choices))
    assert all(each.choices[0].by == "weight" for each in themed)


def test_trends_weigh_and_exploration_leaves_them_out() -> None:
    loved = (trend("tree", 62.0, 2.0),)  # 1 + log2(63) + 2 = 8.98 times; of "pine tree" half
    followed = subjects(write(trends=loved, exploration=0, count=4000))
    total = 4 + (1 + 7.977) + (1 + 7.977 / 2)
    assert followed["tree"] / 4000 == pytest.approx((1 + 7.977) / total, abs=0.03)
    assert followed["pine tree"] / 4000 == pytest.approx((1 + 7.977 / 2) / total, abs=0.03)
    explored = subjects(write(trends=loved, exploration=1, count=4000))
    assert explored["tree"] / 4000 == pytest.approx(1 / 6, abs=0.03)


def test_each_choice_is_explained() -> None:
    loved = (trend("tree", 62.0, 2.0),)
    followed = write(trends=loved, exploration=0, theme="tree", count=1)[0].choices[0]
    assert followed.by == "trend"
    assert "tree has a score of 62 and a rise of 2" in followed.reason
    assert write(trends=loved, exploration=1, count=1)[0].choices[0].by == "exploration"
    plain = write(exploration=1, count=1)[0].choices[0]
    assert (plain.by, plain.share) == ("weight", 0.1667)
    assert plain.reason == "Chosen by weight, 17% likely among 6."


def test_a_falling_term_weighs_no_less_than_an_unknown_one() -> None:
    falling = subjects(write(trends=(trend("cat", 0.0, -9.0),), exploration=0, count=3000))
    assert falling["cat"] / 3000 == pytest.approx(1 / 6, abs=0.03)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("subject = [", "Unclosed array|Invalid value|invalid"),
        ('subject = ["a"]', "no `composition`"),
        ('composition = ["{subject}"]', "no `subject`"),
        ('subject = ["a"]\ncomposition = ["{subject} {styl}"]', "names 'styl'.*are: subject"),
        ('subject = ["a"]\ncomposition = ["a picture"]', "'a picture' has no subject"),
        ('subject = []\ncomposition = ["{subject}"]', "subject: "),
        ('subject = ["a"]\ncomposition = ["{subject}"]\nthemes = "half"', "themes: "),
        (
            'subject = [{text = "a", weight = 0}]\ncomposition = ["{subject}"]',
            "subject.0.weight: .*greater than 0",
        ),
        (
            'subject = [{text = "a", goes_with = {hue = []}}]\ncomposition = ["{subject}"]',
            "'a' goes with 'hue', which is no slot",
        ),
    ],
)
def test_a_file_that_is_no_grammar_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "grammar.toml"
    path.write_text(text)
    with pytest.raises(GrammarError, match=f"(?s){path}.*({why})"):
        Grammar.read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(GrammarError, match="cannot be read: No such file"):
        Grammar.read(tmp_path / "none.toml")
