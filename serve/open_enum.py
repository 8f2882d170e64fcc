"""Enumerations to which a newer version may add names."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class OpenEnum(StrEnum):
    """Write members; read with ``read`` what another process may have written."""

    @classmethod
    def read(cls, name: str) -> Self:
        """The member of that name, or the name itself if only a newer version knows it.

        Such a name equals no member, and clients see it as it is.
        """
        try:
            return cls(name)
        except ValueError:
            unknown = str.__new__(cls, name)
            unknown._name_ = unknown._value_ = name
            return unknown
