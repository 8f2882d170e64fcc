"""Tenants as operators send and see them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, Field

from serve.http.strict import StrictBody, Text
from serve.tables import Tenant

_MOST = 1e12
Limit = Annotated[float, Field(ge=0, le=_MOST)]
Weight = Annotated[float, Field(gt=0, le=1000)]


class LimitsBody(StrictBody):
    """A tenant's own limits: 0 is no limit, null what the settings say."""

    requests_per_minute: Limit | None = Field(
        None, description="Requests that change something.", examples=[120]
    )
    gpu_seconds_per_minute: Limit | None = Field(
        None, description="Predicted GPU seconds of the jobs accepted in a minute.", examples=[60]
    )
    gpu_seconds_burst: Limit | None = Field(
        None, description="So many of them at once; 0 for a minute's worth.", examples=[120]
    )
    gpu_seconds_per_month: Limit | None = Field(
        None, description="Of a calendar month in UTC.", examples=[100_000]
    )


class TenantChange(StrictBody):
    """What is left out stays as it is."""

    weight: Weight | None = Field(
        None, description="Its share of the devices while others wait as well.", examples=[2]
    )
    limits: LimitsBody | None = Field(
        None, description="Its own: 0 is no limit, null what the settings say."
    )

    def values(self) -> dict[str, Any]:
        """The columns that are told."""
        weight = {} if self.weight is None else {"weight": self.weight}
        return {**weight, **(self.limits.model_dump(exclude_unset=True) if self.limits else {})}


class TenantBody(TenantChange):
    """A tenant to be made."""

    name: Text = Field(
        min_length=1, max_length=100, description="No other tenant has it.", examples=["studio"]
    )


class TenantOut(BaseModel):
    """A tenant as it stands."""

    id: UUID
    name: str = Field(examples=["studio"])
    weight: float = Field(description="Its share of the devices while others wait as well.")
    limits: LimitsBody = Field(description="Its own; null is what the settings say.")
    created_at: datetime

    @classmethod
    def of(cls, tenant: Tenant) -> Self:
        own = {name: getattr(tenant, name) for name in LimitsBody.model_fields}
        return cls(
            id=tenant.id,
            name=tenant.name,
            weight=tenant.weight,
            limits=LimitsBody(**own),
            created_at=tenant.created_at,
        )


class TenantList(BaseModel):
    """Newest first; `next` is the `after` of the next page."""

    data: list[TenantOut]
    has_more: bool
    next: str | None
