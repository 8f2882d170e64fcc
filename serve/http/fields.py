"""Fields of what clients send: bodies that take exactly their fields, text and times."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from types import UnionType
from typing import Annotated, Any, ClassVar, Self, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError


def printable(text: str, limit: int = 1000) -> str:
    """No lone surrogates, which UTF-8 cannot hold, and not endless."""
    return text[:limit].encode("utf-8", "replace").decode()


def plain_kinds(annotation: Any) -> set[Any]:
    """The plain types that a field's annotation names."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return plain_kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return set().union(*(plain_kinds(each) for each in get_args(annotation)))
    return {annotation}


def is_left_out(text: str, annotation: Any) -> bool:
    """Whether this is how clients send an optional field that they leave empty.

    ``null`` is what JavaScript makes of a null in a form or an address; where any text is
    taken, it may be meant.
    """
    return text == "" or (text == "null" and str not in plain_kinds(annotation))


_DAY_FIRST = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def _dated(value: Any) -> Any:
    """Pydantic would take `0.5` for half a second after 1970 began."""
    if isinstance(value, str) and not _DAY_FIRST.match(value):
        raise ValueError("must begin with a day like 2026-11-24")
    return value


# What Postgres, Python and a UUIDv7 all can hold in every time zone.
Moment = Annotated[
    AwareDatetime,
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), le=datetime(9000, 1, 1, tzinfo=UTC)),
    BeforeValidator(_dated),
]
Day = Annotated[date, BeforeValidator(_dated)]


class RowOut(BaseModel):
    """An answer that is made of a row, whose attributes have the names of the fields."""

    @classmethod
    def of_row(cls, row: object, **others: Any) -> Self:
        """``others`` are the fields that differ from the row's attribute, or have none."""
        own = {name: getattr(row, name) for name in cls.model_fields if name not in others}
        return cls(**own, **others)


class StrictBody(BaseModel):
    """Refuses unknown fields by naming the known ones; ``"20"`` and ``true`` are no numbers.

    An optional field that is ``""`` or null counts as left out.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    other_names: ClassVar[Mapping[str, str]] = {}
    """What other services call fields, for the error that names the right one."""

    @model_validator(mode="before")
    @classmethod
    def _only_known_fields(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        for field in body:
            if field not in cls.model_fields:
                raise cls._unknown(printable(str(field), 100))
        return {name: value for name, value in body.items() if not cls._left_out(name, value)}

    @classmethod
    def _left_out(cls, name: str, value: Any) -> bool:
        field = cls.model_fields[name]
        if field.is_required():
            return False
        # Where null is the default, it may as well say something else: a limit that is taken off.
        return value == "" or (value is None and field.default is not None)

    @classmethod
    def _unknown(cls, field: str) -> PydanticCustomError:
        known = list(cls.model_fields)
        meant = [name for name in (cls.other_names.get(field.lower()),) if name in known]
        meant = meant or difflib.get_close_matches(field, known, 1)
        return PydanticCustomError(
            "unknown_field",
            "Unknown field `{field}`{hint}. Known fields: {known}.",
            {
                "field": field,
                "hint": f"; use `{meant[0]}`" if meant else "",
                "known": ", ".join(known),
            },
        )


# All controls but tab, line feed and carriage return: a terminal would obey them.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def _storable(text: str) -> str:
    """Text that UTF-8 and Postgres can hold, and that is text."""
    control = _CONTROLS.search(text)
    if control:
        raise ValueError(f"must not contain the control character U+{ord(control[0]):04X}")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("must be valid Unicode, without lone surrogates")
    return text


Text = Annotated[str, AfterValidator(_storable)]
