"""Bodies that take exactly their fields, of exactly their types."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from serve.api.text import printable


class StrictBody(BaseModel):
    """Refuses unknown fields by naming the known ones; ``"20"`` and ``true`` are no numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known_fields(cls, body: Any) -> Any:
        if isinstance(body, dict):
            for field in body:
                if field not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_field",
                        "Unknown field `{field}`. Known fields: {known}.",
                        {"field": printable(str(field), 100), "known": ", ".join(cls.model_fields)},
                    )
        return body


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
