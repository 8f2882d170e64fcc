"""API keys: random strings whose SHA-256 alone is kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from serve.database import Database
from serve.errors import ServiceError
from serve.models import ApiKey
from serve.security import repository

MARK = "sfm_"
MIN_CHARS = 24
MAX_CHARS = 512
PREFIX_CHARS = 12
CACHE_S = 5.0
CACHE_LIMIT = 10_000


class InvalidKey(ServiceError):
    status = 401
    code = "invalid_api_key"
    title = "Invalid API key"


class KeyNotFound(ServiceError):
    status = 404
    code = "key_not_found"
    title = "No such key"


class KeyTooShort(ServiceError):
    status = 422
    code = "key_too_short"
    title = "Key too short"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks."""

    tenant_id: UUID
    key_id: UUID


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Keys:
    """Makes, lists, revokes and recognises keys.

    A recognised key is remembered for ``CACHE_S`` seconds by each process, so a key revoked
    elsewhere opens the door for at most that long. Keys that were not recognised are never
    remembered: a new key works at once.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[bytes, tuple[float, Principal]] = {}
        self._confirmed: dict[UUID, float] = {}

    async def create(self, tenant_name: str, name: str) -> tuple[str, ApiKey]:
        """A new key of the tenant, which is made if need be; the plain key is told only here."""
        token = MARK + secrets.token_urlsafe(32)
        async with self._database.transaction() as session:
            tenant = await repository.tenant_named(session, tenant_name)
            key = await repository.add_key(
                session, tenant.id, name, prefix=token[:PREFIX_CHARS], digest=_digest(token)
            )
        return token, key

    async def ensure(self, token: str, tenant_name: str = "default") -> None:
        """Make the operator's own string a key of the tenant.

        Raises:
            KeyTooShort: below ``MIN_CHARS`` characters.
        """
        if len(token) < MIN_CHARS:
            raise KeyTooShort(f"A key needs {MIN_CHARS} characters or more; this has {len(token)}.")
        async with self._database.transaction() as session:
            tenant = await repository.tenant_named(session, tenant_name)
            # Four characters, not twelve: of a string that a person chose, twelve may be half.
            await repository.ensure_key(
                session, tenant.id, "SFUMATO_API_KEY", prefix=token[:4], digest=_digest(token)
            )

    async def list(self, tenant_name: str | None = None) -> Sequence[ApiKey]:
        """Every key, or the tenant's, oldest first, revoked ones included."""
        async with self._database.transaction() as session:
            return await repository.keys_of(session, tenant_name)

    async def revoke(self, key_id: UUID) -> None:
        """Close the door to the key: here at once, in other processes within ``CACHE_S`` seconds.

        Raises:
            KeyNotFound: when there is no such key.
        """
        async with self._database.transaction() as session:
            if not await repository.revoke_key(session, key_id):
                raise KeyNotFound(f"There is no key {key_id}.")
        self._known = {
            digest: known for digest, known in self._known.items() if known[1].key_id != key_id
        }
        self._confirmed.pop(key_id, None)

    async def authenticate(self, token: str) -> Principal:
        """Who the key belongs to.

        Raises:
            InvalidKey: when it is unknown, malformed or revoked; which of them is not told.
        """
        if not token.isascii() or not MIN_CHARS <= len(token) <= MAX_CHARS:
            raise InvalidKey("This API key is not valid.")
        digest = _digest(token)
        known = self._known.get(digest)
        if known and known[0] > time.monotonic():
            return known[1]
        async with self._database.transaction() as session:
            key = await repository.key_by_digest(session, digest)
        # The index found it by equality already; comparing again in constant time costs nothing
        # and keeps the promise should the query ever be loosened.
        if key is None or not hmac.compare_digest(key.digest, digest):
            self._known.pop(digest, None)
            raise InvalidKey("This API key is not valid.")
        principal = Principal(tenant_id=key.tenant_id, key_id=key.id)
        if len(self._known) >= CACHE_LIMIT:
            self._known.clear()
        self._known[digest] = (time.monotonic() + CACHE_S, principal)
        return principal

    async def confirm(self, principal: Principal) -> None:
        """See that a key which was recognised earlier has not been revoked since.

        Raises:
            InvalidKey: it has.
        """
        if self._confirmed.get(principal.key_id, 0) > time.monotonic():
            return
        async with self._database.transaction() as session:
            if not await repository.key_is_valid(session, principal.key_id):
                raise InvalidKey("This API key is not valid any more.")
        if len(self._confirmed) >= CACHE_LIMIT:
            self._confirmed.clear()
        self._confirmed[principal.key_id] = time.monotonic() + CACHE_S
