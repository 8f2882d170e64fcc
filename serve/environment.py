"""Reads the settings from environment and file, with a sentence for each value that is wrong."""

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

from serve.config_file import WrongConfigFile
from serve.origins import PREFIX, Origins, key_of, variable_of
from serve.settings import Settings

_SECRETS = {
    "DATABASE_URL",
    "REDIS_URL",
    "SENTRY_DSN",
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
    """A line for each setting that is wrong; each names its variable, or its key, and the cure."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def read_settings(args: Mapping[str, Any] | None = None) -> Settings:
    """The settings of this process; ``args``, by field name, override environment and file.

    Raises:
        WrongSettings: a value is wrong, a variable is named like a setting but is none, or the file
            cannot be read.
    """
    if wrong := list(_wrong_variables(os.environ)):
        raise WrongSettings(wrong)
    try:
        origins = Origins.of_process(args)
        return Settings(**(args or {}))
    except WrongConfigFile as error:
        raise WrongSettings([str(error)]) from error
    except ValidationError as error:
        raise WrongSettings([_sentence(each, origins) for each in error.errors()]) from None


def _known() -> Iterator[tuple[str, FieldInfo]]:
    """Every variable that is read, and its field; a section may be one variable, as JSON."""
    for name, field in Settings.model_fields.items():
        yield variable_of([name]), field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for inner, inner_field in field.annotation.model_fields.items():
                yield variable_of([name, inner]), inner_field


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
            if name.startswith(PREFIX) and not _is_of_others(name, value):
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


def _nearest(name: str, *, as_key: bool = False) -> str:
    # Without the prefix, which would make all of them near.
    plain = {field.removeprefix(PREFIX): field for field in _FIELDS}
    found = get_close_matches(name.removeprefix(PREFIX), plain, n=1)
    if not found:
        return ""
    variable = plain[found[0]]
    return f"; the nearest is {key_of(variable) if as_key else variable}"


def _sentence(error: ErrorDetails, origins: Origins) -> str:
    location = [str(part) for part in error["loc"] if part != "[key]"]
    name, rest = _split(location)
    in_file = origins.in_file(location[:-1] if error["type"] == "missing" else location)
    place = f"{'.'.join(location)} in {origins.path}" if in_file and location else name + rest
    message = error["msg"].removeprefix("Value error, ").removesuffix(".")
    match error["type"]:
        case "extra_forbidden":
            nearest = _nearest(name + rest, as_key=in_file)
            return f"{place} is no setting{nearest}: correct it or remove it."
        case "missing":
            return f"{place} is missing."
        case "value_error" if message.startswith((PREFIX, "DATABASE_URL")):
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
    names = [variable_of(place[:1]), *(part.upper() for part in place[1:2])]
    inner = "__".join(names)
    if inner in _FIELDS or names[0] not in _FIELDS or names[0] not in _JSON:
        return inner, _path(place[2:])
    return names[0], _path(place[1:])


def _path(place: list[str]) -> str:
    return f" ({'.'.join(place)})" if place else ""


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
