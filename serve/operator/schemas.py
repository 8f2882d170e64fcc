"""The service as its operator sees it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from serve.http.fields import RowOut


class PoolOut(BaseModel):
    """A pool's queue, in predicted seconds."""

    name: str = Field(examples=["default"])
    queued: int = Field(description="Pictures that wait.", examples=[12])
    running: int = Field(description="Pictures that are drawn.", examples=[8])
    backlog_s: float = Field(description="Remaining work for one device.", examples=[31.5])
    wait_s: float = Field(description="Until all that waits has begun.", examples=[12.2])
    oldest_s: float = Field(description="How long the oldest has waited.", examples=[4.1])


class ReplicaOut(BaseModel):
    """A diffusion replica; its counters begin with it, so that two looks give a rate."""

    id: UUID
    pool: str = Field(examples=["default"])
    models: list[str] = Field(examples=[["sfumato-embedded"]])
    device: str = Field(examples=["cuda:0"])
    slots: int = Field(description="Pictures in a step at most.", examples=[8])
    draining: bool
    started_at: datetime
    heartbeat_at: datetime = Field(description="When the counters were told.")
    steps: int = Field(description="Denoising steps.", examples=[1200])
    request_steps: int = Field(description="Pictures in all of them.", examples=[7800])
    finished: int = Field(description="Pictures.", examples=[390])
    failed: int = Field(examples=[0])


class FailureOut(RowOut):
    """A job that failed."""

    job_id: UUID
    tenant: str = Field(description="Its name.", examples=["studio"])
    model: str = Field(examples=["sfumato-embedded"])
    error: str | None = Field(examples=["Storage is full."])
    error_code: str | None
    finished_at: datetime


class Overview(BaseModel):
    """All tenants together."""

    pools: list[PoolOut]
    replicas: list[ReplicaOut] = Field(description="Those with a fresh heartbeat.")
    pictures_per_minute: float = Field(
        description="Of jobs that succeeded within the last five minutes.", examples=[42.6]
    )
    failures: list[FailureOut] = Field(description="The latest first, 20 at most.")
