"""API keys as admins send and see them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, Field

from serve.access.keys import MAX_EXPIRY_S
from serve.access.scopes import DEFAULT_SCOPES, Scope
from serve.http.page import Page
from serve.http.strict import StrictBody, Text
from serve.tables import ApiKey


class KeyBody(StrictBody):
    """A key to be made."""

    name: Text = Field(
        min_length=1, max_length=100, description="What it is for.", examples=["laptop"]
    )
    scopes: Annotated[
        list[Annotated[Scope, Field(strict=False)]], Field(min_length=1, max_length=len(Scope))
    ] = Field(
        sorted(DEFAULT_SCOPES),
        description="`admin` includes `generate` and `read`, `operator` all; only an operator"
        " makes operators.",
        examples=[["generate", "read"]],
    )
    expires_in_s: float | None = Field(
        None,
        gt=0,
        le=MAX_EXPIRY_S,
        description="Seconds until it ends; never where left out.",
        examples=[2_592_000],
    )
    tenant_id: Annotated[UUID, Field(strict=False)] | None = Field(
        None, description="Whose it is; an operator's to tell."
    )


class KeyPage(Page):
    """Which keys are asked for."""

    tenant_id: UUID | None = Field(None, description="Whose; an operator's to tell.")


class KeyOut(BaseModel):
    """A key as it stands; the key itself is not kept."""

    id: UUID
    tenant_id: UUID
    name: str = Field(examples=["laptop"])
    prefix: str = Field(description="How the key begins.", examples=["sfm_3kQx81Zv"])
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        return cls(
            id=key.id,
            tenant_id=key.tenant_id,
            name=key.name,
            prefix=key.prefix,
            scopes=[Scope.read(scope) for scope in key.scopes],
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
        )


class NewKey(KeyOut):
    """The only answer that tells the key."""

    key: str = Field(
        description="Keep it, it is not told again.",
        examples=["sfm_3kQx81ZvKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo"],
    )

    @classmethod
    def telling(cls, token: str, key: ApiKey) -> Self:
        return cls(**dict(KeyOut.of(key)), key=token)


class KeyList(BaseModel):
    """Newest first; `next` is the `after` of the next page."""

    data: list[KeyOut]
    has_more: bool
    next: str | None
