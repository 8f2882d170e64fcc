"""What a tenant has used."""

from __future__ import annotations

from datetime import date, datetime
from typing import Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from serve.access.ledger import QuotaState, UsageReport
from serve.http.moment import Day
from serve.tables import Usage


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


class UsageOfDay(BaseModel):
    """Jobs accepted on one day for one model."""

    day: date
    model: str = Field(examples=["sfumato-embedded"])
    jobs: int
    pictures: int = Field(description="Less those that were given back undrawn.")
    gpu_seconds: float = Field(description="As predicted; less those of pictures given back.")

    @classmethod
    def of(cls, row: Usage) -> Self:
        return cls(
            day=row.day,
            model=row.model,
            jobs=row.jobs,
            pictures=row.pictures,
            gpu_seconds=row.gpu_seconds,
        )


class QuotaOut(BaseModel):
    """Of this calendar month, in UTC."""

    gpu_seconds: float | None = Field(description="null is no limit.")
    used: float
    left: float | None
    resets_at: datetime

    @classmethod
    def of(cls, quota: QuotaState) -> Self:
        limit = quota.gpu_seconds or None
        return cls(
            gpu_seconds=limit,
            used=quota.used,
            left=None if limit is None else max(0.0, limit - quota.used),
            resets_at=quota.resets_at,
        )


class UsageOut(BaseModel):
    """Sums of the period, its days, and the month's quota."""

    tenant_id: UUID
    since: date
    until: date
    jobs: int
    pictures: int
    gpu_seconds: float
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
            data=[UsageOfDay.of(row) for row in report.rows],
            quota=QuotaOut.of(report.quota),
        )
