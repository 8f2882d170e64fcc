"""API keys."""

from __future__ import annotations

from typing import Any

from serve.access.keys import KeyNotFound
from serve.access.scopes import InsufficientScope, Scope
from serve.api.examples.errors import BEYOND, INVALID_CURSOR, invalid, no_id
from serve.api.examples.example import Example
from serve.api.examples.tenants import NO_SUCH_TENANT, TENANT_ID

_KEY_ID = "019ab2e1-0b3d-7f52-a6c4-71e8d05f9b32"
_KEY: dict[str, Any] = {
    "id": _KEY_ID,
    "tenant_id": TENANT_ID,
    "name": "laptop",
    "prefix": "sfm_3kQx81Zv",
    "scopes": ["generate", "read"],
    "created_at": "2026-11-24T05:23:41.117395Z",
    "expires_at": "2026-12-24T05:23:41.117395Z",
    "revoked_at": None,
}
_NO_OPERATOR = InsufficientScope(Scope.OPERATOR)

TAGS = {
    "keys": "API keys: what each may do, and until when. Admins see to their own tenant's,"
    " operators to any's.",
}

EXAMPLES = {
    "makeKey": Example(
        requests={
            "To draw and to look": {"name": "laptop"},
            "For thirty days": {
                "name": "laptop",
                "scopes": ["generate", "read"],
                "expires_in_s": 2_592_000,
            },
            "An operator's, for another tenant": {
                "name": "first",
                "scopes": ["admin"],
                "tenant_id": TENANT_ID,
            },
        },
        responses={201: {**_KEY, "key": "sfm_3kQx81ZvKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo"}},
        headers={201: {"Cache-Control": "no-store"}},
        errors=(
            _NO_OPERATOR,
            NO_SUCH_TENANT,
            invalid("scopes.0", "Input should be 'generate', 'read', 'admin' or 'operator'"),
        ),
    ),
    "listKeys": Example(
        parameters={"limit": 20, "tenant_id": TENANT_ID},
        responses={
            200: {
                "data": [_KEY],
                "has_more": True,
                "next": "AZqy4Qs9f1KmxHHo0F-bMsA4hmKnsdec",
            }
        },
        errors=(_NO_OPERATOR, BEYOND, INVALID_CURSOR),
    ),
    "revokeKey": Example(
        parameters={"key_id": _KEY_ID},
        errors=(_NO_OPERATOR, KeyNotFound(f"There is no key {_KEY_ID}."), no_id("key_id")),
    ),
}
