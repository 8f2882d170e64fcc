"""Expected failures: types that carry an HTTP status, a stable code, and a sentence that helps."""

from __future__ import annotations

from typing import ClassVar


class ServiceError(Exception):
    """Base of what a client may be told.

    ``param`` names the field at fault where there is one.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
