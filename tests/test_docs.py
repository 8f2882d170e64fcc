"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from serve.events.event import EventType
from serve.origins import variable_of
from serve.settings import Settings

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("pipelines/**/*.md")]


def _line(description: str | None) -> str:
    return " ".join((description or "").split())


def variables() -> dict[str, str]:
    """Every setting's variable and what it means."""
    found = {}
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            for inner, inner_field in section.model_fields.items():
                found[f"SFUMATO_{name}__{inner}".upper()] = _line(inner_field.description)
        else:
            found[variable_of([name])] = _line(field.description)
    return found


def test_every_setting_is_documented_and_nothing_else() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z0-9_]+)` \| .* \| (.*) \|$", page, re.MULTILINE))
    assert rows == variables()


def test_every_event_is_documented() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    assert [event for event in EventType if f"`{event}`" not in page] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_make_targets_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert {name for pair in named for name in pair if name} <= targets
