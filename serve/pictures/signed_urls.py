"""URLs that open one file for a while, without a key."""

from __future__ import annotations

import hashlib
import secrets
import time
from uuid import UUID

from itsdangerous import BadSignature, Signer
from pydantic import SecretStr

from serve.access import repository
from serve.database import Database
from serve.errors import ServiceError
from serve.settings import HttpSettings

_SECRET = "url-signing"  # noqa: S105 - its name
_SECRET_BYTES = 32


class InvalidSignature(ServiceError):
    status = 403
    code = "invalid_signature"
    title = "Invalid signature"
    example = "This signature does not belong to this file."


class SignedUrls:
    """Signs files' URLs and checks them, in any process alike.

    A signature is the tenant, the end (Unix seconds) and an HMAC-SHA256 over both, under a key
    derived from the secret and the file. The secret is the setting, or else one that the database
    keeps. What the previous secret signed opens until it ends.
    """

    def __init__(self, database: Database, settings: HttpSettings) -> None:
        self._database = database
        self._secret = _bytes(settings.url_secret)
        self._previous = _bytes(settings.previous_url_secret)
        self._ttl_s = settings.url_ttl_s

    async def sign(self, tenant_id: UUID, image_id: UUID, variant: str) -> str:
        """A signature that opens the tenant's file for ``ttl_s`` seconds."""
        end = int(time.time()) + self._ttl_s
        return (await self._signer(image_id, variant)).sign(f"{tenant_id.hex}.{end}").decode()

    async def tenant_of(self, signature: str, image_id: UUID, variant: str) -> UUID:
        """The tenant whose file the signature opens.

        Raises:
            InvalidSignature: it is of another file, not ours, or too old.
        """
        try:
            signed = (await self._signer(image_id, variant)).unsign(signature).decode()
        except BadSignature:
            raise InvalidSignature("This signature does not belong to this file.") from None
        tenant, _, end = signed.partition(".")
        if int(end) < time.time():
            raise InvalidSignature("This URL has expired; ask for the picture with an API key.")
        return UUID(tenant)

    async def _signer(self, image_id: UUID, variant: str) -> Signer:
        if self._secret is None:
            async with self._database.transaction() as session:
                fresh = secrets.token_bytes(_SECRET_BYTES)
                self._secret = await repository.ensure_secret(session, _SECRET, fresh)
        known = [secret for secret in (self._previous, self._secret) if secret is not None]
        return Signer(
            known,  # the last one signs, and each opens
            salt=f"{image_id}/{variant}",
            key_derivation="hmac",
            digest_method=hashlib.sha256,
        )


def _bytes(secret: SecretStr | None) -> bytes | None:
    return secret.get_secret_value().encode() if secret else None
