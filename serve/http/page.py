"""Lists: which part is asked for, and what is answered."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field

from serve.http.errors import InvalidCursor

_ID_BYTES = 16
_CHECK_BYTES = 8


class Listed(Protocol):
    """An entry of a list; ids sort by time."""

    @property
    def id(self) -> UUID: ...


T = TypeVar("T", bound=Listed)
Item = TypeVar("Item", bound=BaseModel)


class Listing(BaseModel, Generic[Item]):
    """Newest first; `next` is the `after` of the next page."""

    data: list[Item]
    has_more: bool = Field(examples=[True])
    next: str | None = Field(examples=["AZqy8Mq0fBmz1GoPXpLYFyhPzi-t4VVZ"])


class Page(BaseModel):
    """Query parameters of every list; a list with filters adds them as fields.

    A cursor holds the id of a page's last entry and a digest of that id, of the list (whose
    names and ids the callers give as ``of``) and of the filters. It needs no secret: it grants
    nothing, because every query is the tenant's own; it only must not be taken for another list's.
    """

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=100, description="Entries at most.")
    after: str | None = Field(
        None, description="`next` of the page before, with the same filters; opaque."
    )

    @property
    def limit_and_one(self) -> int:
        """One more than is shown tells whether there are more."""
        return self.limit + 1

    def last_seen(self, *of: object) -> UUID | None:
        """The id that the page begins after.

        Raises:
            InvalidCursor: this list, with these filters, gave no such cursor.
        """
        if self.after is None:
            return None
        try:
            raw = base64.b64decode(self.after, altchars=b"-_", validate=True)
        except ValueError:
            raise _invalid() from None
        if len(raw) != _ID_BYTES + _CHECK_BYTES:
            raise _invalid()
        last = UUID(bytes=raw[:_ID_BYTES])
        if self._cursor(last, of) != self.after:
            raise _invalid()
        return last

    def answer(
        self, entries: Sequence[T], describe: Callable[[T], BaseModel], *of: object
    ) -> dict[str, Any]:
        """The fields of a `Listing` of the entries, of which one too many is asked for."""
        page = entries[: self.limit]
        more = len(entries) > self.limit
        return {
            "data": [describe(entry) for entry in page],
            "has_more": more,
            "next": self._cursor(page[-1].id, of) if more else None,
        }

    def _cursor(self, last: UUID, of: Sequence[object]) -> str:
        filters = self.model_dump(mode="json", exclude={"limit", "after"})
        described = orjson.dumps([str(last), [str(each) for each in of], filters])
        check = hashlib.sha256(described).digest()[:_CHECK_BYTES]
        return base64.urlsafe_b64encode(last.bytes + check).decode()


def _invalid() -> InvalidCursor:
    return InvalidCursor(
        "after must be `next` of the page before, with the same filters; leave it out to begin"
        " with the newest.",
        param="after",
    )
