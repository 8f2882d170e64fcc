"""Single-use tickets, for clients that can send neither headers nor a first message with a key."""

from __future__ import annotations

import hashlib
import secrets
from uuid import UUID

import redis.asyncio as redis
import structlog
from redis.exceptions import RedisError

from serve.access.keys import Principal
from serve.access.scopes import Scope
from serve.errors import ServiceError

log = structlog.get_logger(__name__)

TICKET_S = 30
_PREFIX = "sfumato:ticket:"
_MAX_CHARS = 128


class InvalidTicket(ServiceError):
    status = 401
    code = "invalid_ticket"
    title = "Invalid ticket"


class TicketsUnavailable(ServiceError):
    status = 503
    code = "tickets_unavailable"
    title = "Tickets are not available"
    example = "Tickets are not available now; authenticate in the first message."


class Tickets:
    """Issues tickets and takes each once, within ``TICKET_S`` seconds.

    A ticket travels in a URL, which others may log. So it is short-lived, works once, and Redis
    stores only its SHA-256.
    """

    def __init__(self, url: str) -> None:
        self._redis = redis.from_url(
            url, socket_connect_timeout=2, socket_timeout=2, decode_responses=True
        )

    async def issue(self, principal: Principal) -> str:
        """A new ticket of the caller's.

        Raises:
            TicketsUnavailable: Redis does not answer.
        """
        ticket = secrets.token_urlsafe(32)
        bearer = f"{principal.tenant_id}/{principal.key_id}"
        try:
            await self._redis.set(_name(ticket), bearer, ex=TICKET_S)
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        return ticket

    async def redeem(self, ticket: str) -> Principal:
        """Use up the ticket: the caller whom it was issued to, with the scope `read` alone.

        Raises:
            InvalidTicket: it was never issued, has been used, or is too old.
            TicketsUnavailable: Redis does not answer.
        """
        bearer = None
        if ticket.isascii() and len(ticket) <= _MAX_CHARS:
            try:
                bearer = await self._redis.getdel(_name(ticket))
            except (RedisError, OSError) as error:
                raise _unavailable(error) from error
        if bearer is None:
            raise InvalidTicket(
                f"This ticket is not valid; each opens one connection, within {TICKET_S} seconds."
            )
        tenant_id, key_id = str(bearer).split("/")[:2]  # a newer version may add fields
        return Principal(UUID(tenant_id), UUID(key_id), frozenset({Scope.READ}))

    async def close(self) -> None:
        await self._redis.aclose()


def _name(ticket: str) -> str:
    return _PREFIX + hashlib.sha256(ticket.encode()).hexdigest()


def _unavailable(error: Exception) -> TicketsUnavailable:
    log.warning("tickets.redis_unavailable", error=str(error))
    return TicketsUnavailable(
        "Tickets need Redis, which does not answer; send the key in the WebSocket's first message,"
        ' {"type": "authenticate", "key": "sfm_…"}, instead.'
    )
