"""The operator's judge: asked in time, and what its failures mean."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from serve.moderation.errors import (
    ContentPolicyViolation,
    ModerationSetupError,
    ModerationUnavailable,
)
from serve.moderation.moderation import Moderation
from serve.settings import ModerationSettings
from tests.serve.moderation.classifiers import Slow

CLASSIFIERS = "tests.serve.moderation.classifiers"
LIGHT = np.full((8, 8, 3), 200, dtype=np.uint8)


def moderation(name: str, **more: object) -> Moderation:
    return Moderation(ModerationSettings(classifier=f"{CLASSIFIERS}:{name}", **more))


async def test_both_sides_are_judged() -> None:
    strict = moderation("Strict")
    await strict.judge_prompt("peace")
    await strict.judge_picture(LIGHT)
    with pytest.raises(ContentPolicyViolation, match="prompt") as refused:
        await strict.judge_prompt("a war")
    assert "war" not in str(refused.value)  # the reason is for the log
    with pytest.raises(ContentPolicyViolation, match="picture"):
        await strict.judge_picture(LIGHT // 4)


@pytest.fixture
def _slow_until_the_end() -> Iterator[None]:
    Slow.over.clear()
    yield
    Slow.over.set()


@pytest.mark.usefixtures("_slow_until_the_end")
@pytest.mark.parametrize(("name", "limit"), [("Broken", 5), ("Slow", 0.05)])
async def test_what_cannot_be_judged_is_refused_unless_allowed(name: str, limit: float) -> None:
    closed = moderation(name, timeout_s=limit)
    with pytest.raises(ModerationUnavailable, match="prompt"):
        await closed.judge_prompt("peace")
    with pytest.raises(ModerationUnavailable, match="picture"):
        await closed.judge_picture(LIGHT)
    opened = moderation(name, timeout_s=limit, on_failure="allow")
    await opened.judge_prompt("peace")
    await opened.judge_picture(LIGHT)
    assert Slow.judged == 0, "nobody waited for it"


async def test_without_one_everything_is_allowed() -> None:
    none = Moderation(ModerationSettings())
    none.screen("war", "war")
    await none.judge_prompt("war")
    await none.judge_picture(LIGHT)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("no.such.module:Class", "no.such"),
        (f"{CLASSIFIERS}:None_", "None_"),
        (f"{CLASSIFIERS}:Half", "classify_picture"),
        (f"{CLASSIFIERS}:Demanding", "weights"),
    ],
)
def test_what_is_no_classifier_is_told_at_once(path: str, says: str) -> None:
    with pytest.raises(ModerationSetupError, match=says):
        Moderation(ModerationSettings(classifier=path))


@pytest.mark.parametrize("path", ["", "module", "module:", ":Class", "a:b:c", "a b:c", "os;x:y"])
def test_what_is_no_path_is_no_setting(path: str) -> None:
    with pytest.raises(ValueError, match="classifier"):
        ModerationSettings(classifier=path)
