"""Where the value of each setting comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.config_file import read_config_file

_PLAIN = (
    "DATABASE_URL",
    "REDIS_URL",
    "SENTRY_DSN",
    "SENTRY_ENVIRONMENT",
    "SENTRY_TRACES_SAMPLE_RATE",
)
PREFIX = "SFUMATO_"


def variable_of(place: Sequence[str]) -> str:
    """The variable of a field, or of a section's field: ``("worker", "threads")``."""
    name = "__".join(part.upper() for part in place)
    return name if name in _PLAIN else PREFIX + name


def key_of(variable: str) -> str:
    """The same setting's key in the file: ``worker.threads``."""
    return variable.removeprefix(PREFIX).replace("__", ".").lower()


@dataclass(frozen=True, slots=True)
class Origins:
    """What was given, by source; the first that has a value decides.

    ``args`` and ``file`` nest by field names, ``variables`` are upper case.
    """

    args: Mapping[str, Any]
    variables: frozenset[str]
    file: Mapping[str, Any]
    path: Path | None

    @classmethod
    def of_process(cls, args: Mapping[str, Any] | None = None) -> Origins:
        """Raises WrongConfigFile."""
        path = os.environ.get(variable_of(["config"]))
        return cls(
            args or {},
            frozenset(name.upper() for name in os.environ),
            read_config_file(Path(path)) if path else {},
            Path(path) if path else None,
        )

    def in_file(self, place: Sequence[str]) -> bool:
        """Whether the file's value is the one in force."""
        return _holds(self.file, place) and not (_holds(self.args, place) or self._variable(place))

    def of(self, place: Sequence[str]) -> str:
        """The origin in a word or two: a variable, the file, or `default`."""
        if _holds(self.args, place):
            return "argument"
        return self._variable(place) or (str(self.path) if self.in_file(place) else "default")

    def _variable(self, place: Sequence[str]) -> str | None:
        """The variable that gives it; a dictionary's key may be one, and a whole section."""
        for length in range(len(place), 0, -1):
            if (name := variable_of(place[:length])) in self.variables:
                return name
        within = variable_of(place) + "__"
        return next((name for name in sorted(self.variables) if name.startswith(within)), None)


def _holds(values: Any, place: Sequence[str]) -> bool:
    for part in place:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True
