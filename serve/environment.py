"""Reads the settings from the environment, with a sentence for each variable that is wrong."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from serve.settings import Settings

_PREFIX = "SFUMATO_"
_SECRETS = {
    "DATABASE_URL",
    "REDIS_URL",
    "SFUMATO_API_KEY",
    "SFUMATO_HTTP__URL_SECRET",
    "SFUMATO_HTTP__PREVIOUS_URL_SECRET",
}
_LONGEST_VALUE = 80

OF_CLIENTS = frozenset({"SFUMATO_URL", "SFUMATO_KEY", "SFUMATO_LOGS"})
"""Variables of scripts that call the service; no setting has these names."""
_CLIENT_PREFIX = "SFUMATO_CLIENT_"
_OF_PARTS = frozenset({"SFUMATO_HAPROXY_REPLICAS_AT"})
"""`sfumato up` sets these for its own processes."""
# Kubernetes sets these in every pod for each Service, and one may be called `sfumato-head-svc`.
_OF_KUBERNETES = re.compile(r".*_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*")


class WrongSettings(ValueError):
    """A line for each setting that is wrong; each names its variable and the cure."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def read_settings(args: Mapping[str, Any] | None = None) -> Settings:
    """The settings of this process; ``args``, by field name, override the environment.

    Raises:
        WrongSettings: a value is wrong, or a variable is named like a setting but is none.
    """
    if wrong := list(_wrong_variables(os.environ)):
        raise WrongSettings(wrong)
    try:
        return Settings(**(args or {}))
    except ValidationError as error:
        raise WrongSettings([_sentence(each) for each in error.errors()]) from None


def _known() -> Iterator[tuple[str, FieldInfo]]:
    """Every variable that is read, and its field; a section may be one variable, as JSON."""
    for name, field in Settings.model_fields.items():
        yield _variable(name), field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for inner, inner_field in field.annotation.model_fields.items():
                yield f"{_variable(name)}__{inner.upper()}", inner_field


def _variable(field: str) -> str:
    plain = field.upper()
    return plain if plain in ("DATABASE_URL", "REDIS_URL") else _PREFIX + plain


_FIELDS = dict(_known())
_ORIGINS = {name: get_origin(field.annotation) for name, field in _FIELDS.items()}
_JSON = frozenset(name for name, origin in _ORIGINS.items() if origin in (dict, tuple))
"""Variables whose value is JSON."""
_DICTIONARIES = tuple(f"{name}__" for name, origin in _ORIGINS.items() if origin is dict)
"""After these prefixes comes a key of the operator's own, as in ``SFUMATO_MODEL__LORAS__INK``."""


def _wrong_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """Names that are none, and faults of values that show before they have a type."""
    for variable, value in sorted(environment.items()):
        name = variable.upper()
        if name not in _FIELDS and not name.startswith(_DICTIONARIES):
            if name.startswith(_PREFIX) and not _is_of_others(name, value):
                yield (
                    f"{variable} is no setting{_nearest(name)}: correct it or unset it. What is not"
                    f" for the service may be called {_CLIENT_PREFIX}…."
                )
        elif not value.strip():
            yield f"{name} is empty: unset it, or give it a value."
        elif name in _JSON:
            try:
                json.loads(value)
            except ValueError as error:
                yield f"{name} is {_shortened(value)}, which is no JSON: {error}."


def _is_of_others(name: str, value: str) -> bool:
    return (
        name in OF_CLIENTS | _OF_PARTS
        or name.startswith(_CLIENT_PREFIX)
        or _OF_KUBERNETES.fullmatch(name) is not None
        or (name.endswith("_PORT") and _SERVICE_ADDRESS.fullmatch(value) is not None)
    )


def _nearest(name: str) -> str:
    # Without the prefix, which would make all of them near.
    plain = {field.removeprefix(_PREFIX): field for field in _FIELDS}
    found = get_close_matches(name.removeprefix(_PREFIX), plain, n=1)
    return f"; the nearest is {plain[found[0]]}" if found else ""


def _sentence(error: ErrorDetails) -> str:
    name, rest = _split([str(part) for part in error["loc"]])
    place = name + rest
    message = error["msg"].removeprefix("Value error, ").removesuffix(".")
    match error["type"]:
        case "extra_forbidden":
            return f"{place} is no setting{_nearest(place)}: correct it or remove it."
        case "missing":
            return f"{place} is missing."
        case "value_error" if message.startswith((_PREFIX, "DATABASE_URL")):
            return f"{message}."  # it names the variable itself
        case "value_error" if isinstance(error["input"], BaseModel | dict):
            return f"{place}: {message}."
        case "too_short" | "too_long" | "string_too_short" | "string_too_long":
            least, most = (error["ctx"].get(f"{bound}_length") for bound in ("min", "max"))
            wanted = f"{least} characters or more" if least else f"at most {most} characters"
            return f"{place} must have {wanted}." if least != 1 else f"{place} is empty."
        case "string_pattern_mismatch" if not rest:
            meaning = " ".join((_FIELDS[name].description or "").split())
            message = f"expected: {meaning}".removesuffix(".")
    value = "" if name in _SECRETS else f" is {_shortened(error['input'])}"
    if name == "SFUMATO_PORT" and _SERVICE_ADDRESS.fullmatch(str(error["input"])):
        message += (
            "; Kubernetes sets it for a Service of the name `sfumato`: rename that one, or give"
            " the pod `enableServiceLinks: false`"
        )
    return f"{place}{value}: {message}."


def _split(place: list[str]) -> tuple[str, str]:
    """The variable, and where in it the fault is if it holds JSON."""
    if not place:
        return "", ""
    names = [_variable(place[0]), *(part.upper() for part in place[1:2])]
    inner = "__".join(names)
    if inner in _FIELDS or names[0] not in _FIELDS or names[0] not in _JSON:
        return inner, _path(place[2:])
    return names[0], _path(place[1:])


def _path(place: list[str]) -> str:
    return f" ({'.'.join(place)})" if place else ""


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
