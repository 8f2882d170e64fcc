"""Expected failures: each has an HTTP status, a stable code, and a sentence that helps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import ClassVar

from pipelines.diffusion.errors import ModelLoadError


class ServiceError(Exception):
    """Base of the errors that a client may see.

    ``param`` names the field at fault where there is one; ``retry_after_s`` is when to ask again.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    example: ClassVar[str] = ""
    """A message of it, for the OpenAPI document."""

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        headers = {}
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        return headers


@contextmanager
def naming_model(name: str) -> Iterator[None]:
    """Within it, a model's load error begins with the model's name."""
    try:
        yield
    except ModelLoadError as error:
        raise type(error)(f"Model {name!r}: {error}") from error
