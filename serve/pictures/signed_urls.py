"""URLs that open one file for a while, without a key."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
import time
from dataclasses import dataclass
from uuid import UUID

from pydantic import SecretStr

from serve.access import repository
from serve.database import Database
from serve.errors import ServiceError

_SECRET = "url-signing"  # noqa: S105 - its name
_SECRET_BYTES = 32
_HEAD = struct.Struct(">16sQ")
_MAC_BYTES = hashlib.sha256().digest_size
_MAX_CHARS = 128


class InvalidSignature(ServiceError):
    status = 403
    code = "invalid_signature"
    title = "Invalid signature"
    example = "This signature does not belong to this file."


@dataclass(frozen=True, slots=True)
class File:
    """What a signature opens."""

    image_id: UUID
    variant: str


class SignedUrls:
    """Signs files' URLs and checks them, in any process alike.

    A signature is base64url of tenant, end (Unix seconds) and HMAC-SHA256 over both and the
    file's name. The secret is the setting, or else one that the database keeps.
    """

    def __init__(self, database: Database, secret: SecretStr | None, ttl_s: int) -> None:
        self._database = database
        self._secret = secret.get_secret_value().encode() if secret else None
        self._ttl_s = ttl_s

    async def sign(self, tenant_id: UUID, file: File) -> str:
        """A signature that opens the tenant's file for ``ttl_s`` seconds."""
        head = _HEAD.pack(tenant_id.bytes, int(time.time()) + self._ttl_s)
        mac = _mac(await self._key(), head, file)
        return base64.urlsafe_b64encode(head + mac).rstrip(b"=").decode()

    async def tenant_of(self, signature: str, file: File) -> UUID:
        """Whose file the signature opens.

        Raises:
            InvalidSignature: it is of another file, of no one's, or too old.
        """
        raw = _decode(signature)
        head, mac = raw[: _HEAD.size], raw[_HEAD.size :]
        if len(mac) != _MAC_BYTES or not hmac.compare_digest(
            mac, _mac(await self._key(), head, file)
        ):
            raise InvalidSignature("This signature does not belong to this file.")
        tenant, end = _HEAD.unpack(head)
        if end < time.time():
            raise InvalidSignature("This URL has expired; ask for the picture with an API key.")
        return UUID(bytes=tenant)

    async def _key(self) -> bytes:
        if self._secret is None:
            async with self._database.transaction() as session:
                fresh = secrets.token_bytes(_SECRET_BYTES)
                self._secret = await repository.ensure_secret(session, _SECRET, fresh)
        return self._secret


def _mac(key: bytes, head: bytes, file: File) -> bytes:
    message = head + file.image_id.bytes + file.variant.encode()
    return hmac.digest(key, message, hashlib.sha256)


def _decode(signature: str) -> bytes:
    if len(signature) > _MAX_CHARS or not signature.isascii():
        return b""
    try:
        return base64.b64decode(
            signature + "=" * (-len(signature) % 4), altchars=b"-_", validate=True
        )
    except binascii.Error:
        return b""
