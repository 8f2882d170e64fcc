"""Names of which a newer version may know more."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class OpenEnum(StrEnum):
    """Whoever writes takes a member; whoever reads what another process wrote takes ``read``."""

    @classmethod
    def read(cls, name: str) -> Self:
        """The member of that name, or the name itself where a newer version wrote it.

        Such a one equals no member and is told to clients as it is.
        """
        try:
            return cls(name)
        except ValueError:
            unknown = str.__new__(cls, name)
            unknown._name_ = unknown._value_ = name
            return unknown
