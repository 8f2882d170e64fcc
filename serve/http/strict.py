"""Bodies that take exactly their fields, of exactly their types."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from serve.http.text import printable


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
