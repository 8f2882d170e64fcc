"""What a field takes, where all that is sent is text: in forms and in addresses."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin


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
