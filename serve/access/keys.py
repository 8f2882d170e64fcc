"""API keys: random strings of which only the SHA-256 is stored.

A slow or keyed hash would add nothing: nobody guesses 256 random bits, however fast the hash is,
and no table made beforehand contains them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from time import monotonic
from uuid import UUID

from serve.access import repository
from serve.access.remembered import Remembered
from serve.access.scopes import DEFAULT_SCOPES, InsufficientScope, Scope, with_included
from serve.database import Database, DatabaseUnavailable
from serve.errors import ServiceError
from serve.observability.meter import UNMETERED, Meter
from serve.tables import ApiKey

MARK = "sfm_"
MIN_CHARS = 24
MAX_CHARS = 512
PREFIX_CHARS = 12
MAX_EXPIRY_S = 10 * 366 * 24 * 3600.0


class InvalidKey(ServiceError):
    status = 401
    code = "invalid_api_key"
    title = "Invalid API key"


class KeyNotFound(ServiceError):
    status = 404
    code = "key_not_found"
    title = "No such key"
    example = "There is no key 019ab2e1-0b3d-7f52-a6c4-71e8d05f9b32."


class KeyTooShort(ServiceError):
    status = 422
    code = "key_too_short"
    title = "Key too short"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller, and what they may do."""

    tenant_id: UUID
    key_id: UUID
    scopes: frozenset[Scope]
    """With all that they include."""

    def require(self, scope: Scope) -> None:
        """Raise InsufficientScope where the key lacks the scope."""
        if scope not in self.scopes:
            raise InsufficientScope(scope)

    def may_see(self, tenant_id: UUID) -> bool:
        """Whether the caller may see what belongs to the tenant."""
        return tenant_id == self.tenant_id or Scope.OPERATOR in self.scopes


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Keys:
    """Makes, lists, revokes and authenticates keys.

    Each process remembers a valid key for ``FRESH_S`` seconds, so a key that another process
    revokes works for at most that long. No key is used beyond its expiry. Invalid keys are never
    remembered: a new key works at once.
    """

    def __init__(self, database: Database, meter: Meter = UNMETERED) -> None:
        self._database = database
        self._principals = Remembered("keys", self._find, meter)
        """With the end of each, on this process's clock."""
        self._confirmed = Remembered("keys", self._confirm, meter)

    async def create(
        self,
        tenant_name: str,
        name: str,
        scopes: Collection[Scope] = DEFAULT_SCOPES,
        expires_in_s: float | None = None,
    ) -> tuple[str, ApiKey]:
        """A new key of the tenant, which is made if need be. Only this returns the plain key."""
        token = MARK + secrets.token_urlsafe(32)
        async with self._database.transaction() as session:
            tenant = await repository.tenant_named(session, tenant_name)
            key = await repository.add_key(
                session,
                tenant.id,
                name,
                prefix=token[:PREFIX_CHARS],
                digest=_digest(token),
                scopes=scopes,
                expires_in_s=expires_in_s,
            )
        return token, key

    async def ensure(self, token: str, tenant_name: str = "default") -> None:
        """Make the operator's own string a key of the tenant, with every scope.

        Whichever was given before stops being one, in other processes within ``FRESH_S`` seconds.

        Raises:
            KeyTooShort: below ``MIN_CHARS`` characters.
        """
        if len(token) < MIN_CHARS:
            raise KeyTooShort(f"A key needs {MIN_CHARS} characters or more; this has {len(token)}.")
        async with self._database.transaction() as session:
            tenant = await repository.tenant_named(session, tenant_name)
            await repository.ensure_own_key(
                session,
                tenant.id,
                prefix=token[: repository.OWN_PREFIX_CHARS],
                digest=_digest(token),
                scopes=[Scope.OPERATOR],
            )

    async def list(self, tenant_name: str | None = None) -> Sequence[ApiKey]:
        """Every key, or the tenant's, oldest first, revoked ones included."""
        async with self._database.transaction() as session:
            return await repository.keys_of(session, tenant_name)

    async def page(self, tenant_id: UUID, *, limit: int, after: UUID | None) -> Sequence[ApiKey]:
        """The tenant's keys older than ``after``, newest first, revoked ones included."""
        async with self._database.transaction() as session:
            return await repository.keys_before(session, tenant_id, limit, after)

    async def revoke(self, key_id: UUID, by: Principal | None = None) -> None:
        """End the key: in this process at once, in others within ``FRESH_S`` seconds.

        A caller (``by``) may revoke keys of their own tenant, an operator those of every tenant.
        Only an operator may revoke an operator's key. Without ``by`` any key may be revoked.

        Raises:
            InsufficientScope: it is an operator's key.
            KeyNotFound: there is no such key.
        """
        async with self._database.transaction() as session:
            key = await repository.key_by_id(session, key_id)
            if key is None or not (by is None or by.may_see(key.tenant_id)):
                raise KeyNotFound(f"There is no key {key_id}.")
            if by is not None and Scope.OPERATOR in key.scopes:
                by.require(Scope.OPERATOR)
            await repository.revoke_key(session, key_id)
        self._principals.forget(key.digest)
        self._confirmed.forget(key_id)

    async def authenticate(self, token: str) -> Principal:
        """The key's tenant and scopes.

        Raises:
            InvalidKey: it is unknown, malformed, expired or revoked; the error does not say which.
        """
        if not token.isascii() or not MIN_CHARS <= len(token) <= MAX_CHARS:
            raise InvalidKey("This API key is not valid.")
        digest = _digest(token)
        principal, ends_at = await self._principals.of(digest)
        if ends_at <= monotonic():
            self._principals.forget(digest)
            principal, _ = await self._principals.of(digest)
        return principal

    async def confirm(self, principal: Principal) -> None:
        """Check that a key which was valid earlier was not revoked and has not expired since.

        Raises:
            InvalidKey: it was, or has.
        """
        await self._confirmed.of(principal.key_id)

    async def may_stay(self, principal: Principal) -> bool:
        """Whether a caller whose key was valid earlier may go on, as far as is known.

        While Postgres does not answer they may: nobody can revoke a key meanwhile.
        """
        with suppress(DatabaseUnavailable):
            try:
                await self.confirm(principal)
            except InvalidKey:
                return False
        return True

    async def _find(self, digest: bytes) -> tuple[Principal, float]:
        async with self._database.transaction() as session:
            found = await repository.key_by_digest(session, digest)
        # The query compares already. A second comparison in constant time costs nothing, and holds
        # if the query should ever become less strict.
        if found is None or not hmac.compare_digest(found[0].digest, digest):
            raise InvalidKey("This API key is not valid.")
        key, left_s = found
        ends_at = inf if left_s is None else monotonic() + left_s
        return Principal(key.tenant_id, key.id, with_included(key.scopes)), ends_at

    async def _confirm(self, key_id: UUID) -> None:
        async with self._database.transaction() as session:
            if not await repository.key_is_valid(session, key_id):
                raise InvalidKey("This API key is not valid any more.")
