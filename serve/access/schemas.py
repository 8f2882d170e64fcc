"""Keys, tenants and usage as clients send and see them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from serve.access.keys import MAX_EXPIRY_S
from serve.access.ledger import UsageReport
from serve.access.scopes import DEFAULT_SCOPES, Scope
from serve.http.fields import Day, RowOut, StrictBody, Text
from serve.http.page import Listing, Page
from serve.tables import ApiKey, Tenant


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
    """Query parameters of the list of keys."""

    tenant_id: UUID | None = Field(None, description="Whose; an operator's to tell.")


class KeyOut(RowOut):
    """A key as it stands; the key itself is not kept."""

    id: UUID
    tenant_id: UUID
    name: str = Field(examples=["laptop"])
    prefix: str = Field(description="How the key begins.", examples=["sfm_3kQx81Zv"])
    scopes: list[Scope] = Field(examples=[["generate", "read"]])
    created_at: datetime
    expires_at: datetime | None = Field(examples=["2026-12-24T05:23:41.117395Z"])
    revoked_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        return cls.of_row(key, scopes=[Scope.read(scope) for scope in key.scopes])


class NewKey(KeyOut):
    """The only answer that tells the key."""

    key: str = Field(
        description="Keep it; it is not shown again.",
        examples=["sfm_3kQx81ZvKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo"],
    )

    @classmethod
    def telling(cls, token: str, key: ApiKey) -> Self:
        return cls(**dict(KeyOut.of(key)), key=token)


class KeyList(Listing[KeyOut]):
    """Newest first; `next` is the `after` of the next page."""


_MOST = 1e12
Limit = Annotated[float, Field(ge=0, le=_MOST)]
Weight = Annotated[float, Field(ge=0, le=1000)]


class LimitsBody(StrictBody):
    """What holds for a tenant: of numbers 0 is no limit; null is what the settings say."""

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
    withhold_prompts: bool | None = Field(
        None, description="Whether its pictures' files leave out their prompts.", examples=[True]
    )


class TenantChange(StrictBody):
    """What is left out stays as it is."""

    weight: Weight | None = Field(
        None,
        description="Its share of the devices while others wait as well. 0: in the background, it"
        " draws only while nobody else does.",
        examples=[2],
    )
    limits: LimitsBody | None = Field(
        None,
        description="Its own: 0 is no limit, null what the settings say.",
        examples=[{"requests_per_minute": 120, "gpu_seconds_per_month": None}],
    )

    def values(self) -> dict[str, Any]:
        """The columns that change."""
        weight = {} if self.weight is None else {"weight": self.weight}
        return {**weight, **(self.limits.model_dump(exclude_unset=True) if self.limits else {})}


class TenantBody(TenantChange):
    """A tenant to be made."""

    name: Text = Field(
        min_length=1, max_length=100, description="No other tenant has it.", examples=["studio"]
    )


class TenantOut(RowOut):
    """A tenant as it stands."""

    id: UUID
    name: str = Field(examples=["studio"])
    weight: float = Field(
        description="Its share of the devices while others wait as well.", examples=[2.0]
    )
    limits: LimitsBody = Field(description="Its own; null is what the settings say.")
    created_at: datetime

    @classmethod
    def of(cls, tenant: Tenant) -> Self:
        own = {name: getattr(tenant, name) for name in LimitsBody.model_fields}
        return cls.of_row(tenant, limits=LimitsBody(**own))


class TenantList(Listing[TenantOut]):
    """Newest first; `next` is the `after` of the next page."""


class UsageQuery(BaseModel):
    """Which days, of whom."""

    model_config = ConfigDict(extra="forbid")

    since: Day | None = Field(
        None,
        description="The first day, in UTC; this month's where left out.",
        examples=["2026-11-01"],
    )
    until: Day | None = Field(
        None, description="The last day; today where left out.", examples=["2026-11-30"]
    )
    tenant_id: UUID | None = Field(None, description="Whose; an operator's to tell.")


class UsageOfDay(RowOut):
    """Jobs accepted on one day for one model."""

    day: date
    model: str = Field(examples=["sfumato-embedded"])
    jobs: int = Field(examples=[32])
    pictures: int = Field(description="Less those that were given back undrawn.", examples=[100])
    gpu_seconds: float = Field(
        description="As predicted; less those of pictures given back.", examples=[200.25]
    )


class QuotaOut(BaseModel):
    """Of this calendar month, in UTC."""

    gpu_seconds: float | None = Field(description="null is no limit.", examples=[100_000.0])
    used: float = Field(examples=[200.25])
    left: float | None = Field(examples=[99_799.75])
    resets_at: datetime

    @classmethod
    def of(cls, report: UsageReport) -> Self:
        return cls(
            gpu_seconds=report.quota or None,
            used=report.used,
            left=max(0.0, report.quota - report.used) if report.quota else None,
            resets_at=report.resets_at,
        )


class UsageOut(BaseModel):
    """Sums of the period, its days, and the month's quota."""

    tenant_id: UUID
    since: date
    until: date
    jobs: int = Field(examples=[32])
    pictures: int = Field(examples=[100])
    gpu_seconds: float = Field(examples=[200.25])
    data: list[UsageOfDay] = Field(description="By day and model, the oldest first.")
    quota: QuotaOut

    @classmethod
    def of(cls, tenant_id: UUID, report: UsageReport) -> Self:
        return cls(
            tenant_id=tenant_id,
            since=report.since,
            until=report.until,
            jobs=sum(row.jobs for row in report.rows),
            pictures=sum(row.pictures for row in report.rows),
            gpu_seconds=sum(row.gpu_seconds for row in report.rows),
            data=[UsageOfDay.of_row(row) for row in report.rows],
            quota=QuotaOut.of(report),
        )
