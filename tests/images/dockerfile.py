"""Reads a Dockerfile and the .dockerignore beside it, as far as ours go."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILES = ("Dockerfile", "Dockerfile.gpu")


@dataclass(frozen=True)
class Instruction:
    """``COPY --from=wheel /a /b`` has the flag ``from`` and the text ``/a /b``."""

    stage: str
    name: str
    flags: dict[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)

    @property
    def pairs(self) -> dict[str, str]:
        """What an ENV, ARG or LABEL sets."""
        return dict(word.partition("=")[::2] for word in self.words)

    @property
    def command(self) -> list[str]:
        """A command in exec form.

        Raises:
            ValueError: it is in shell form.
        """
        command: list[str] = json.loads(self.text.removeprefix("CMD "))
        return command


class Dockerfile:
    def __init__(self, text: str) -> None:
        self.instructions = list(_instructions(text))

    @classmethod
    def named(cls, name: str) -> Dockerfile:
        return cls((ROOT / name).read_text())

    def every(self, name: str) -> list[Instruction]:
        return [each for each in self.instructions if each.name == name]

    @cached_property
    def stages(self) -> dict[str, str]:
        """What each stage is built from."""
        return {each.stage: each.words[0] for each in self.every("FROM")}

    @cached_property
    def last(self) -> dict[str, Instruction]:
        """The last instruction of each name in the last stage: those that count in the image."""
        final = self.instructions[-1].stage
        return {each.name: each for each in self.instructions if each.stage == final}

    @cached_property
    def environment(self) -> dict[str, str]:
        """The variables that the image sets; `$PATH` stays as it is written."""
        return {
            name: value
            for each in self.every("ENV")
            if each.stage == self.instructions[-1].stage
            for name, value in each.pairs.items()
        }


def _instructions(text: str) -> Iterator[Instruction]:
    stage = ""
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", "", kept).splitlines():
        if not line.strip():
            continue
        name, _, rest = line.partition(" ")
        flags = {}
        while found := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            flags[found[1]] = found[2]
            rest = rest[found.end() :]
        if name == "FROM":
            stage = rest.split()[-1]
        yield Instruction(stage, name, flags, rest.strip())


def is_sent(path: str) -> bool:
    """Whether a build gets the file: .dockerignore's last line that fits it, or a folder above."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            keeps = pattern.startswith("!")
            if _regex(pattern.removeprefix("!").rstrip("/")).match(path):
                sent = keeps
    return sent


def _regex(pattern: str) -> re.Pattern[str]:
    parts = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", pattern)
    written = (
        parts.get(each, each if each.startswith("[") else re.escape(each)) for each in pieces
    )
    return re.compile("".join(written) + r"(/|$)")
