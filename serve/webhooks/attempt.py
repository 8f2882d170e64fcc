"""One try of a delivery, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claimed delivery: what is sent, and by whose leave."""

    delivery_id: UUID
    webhook_id: UUID
    tenant_id: UUID
    number: int
    """1 for the first try."""
    lease_until: datetime
    """Until then nobody else sends it; also what tells this claim from a later one."""
    claimed_at: datetime
    url: str = field(repr=False)  # it may hold a token
    keys: tuple[bytes, ...] = field(repr=False)
    """The secret; for a day after a rotation, the previous one as well."""
    body: bytes

    @property
    def message_id(self) -> str:
        """The same for every try, so that a receiver can tell a repetition."""
        return f"msg_{self.delivery_id}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said, or the sentence that says why it said nothing."""

    status: int | None
    error: str | None = None
    retry_after_s: float = 0.0
    """How long a receiver asked to be left alone, from its answer on."""

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """The receiver wants nothing more, ever."""
        return self.status == 410
