"""A ticket for one WebSocket."""

from __future__ import annotations

from pydantic import BaseModel, Field


class TicketOut(BaseModel):
    ticket: str = Field(description="Opens `GET /v1/events?ticket=…` once.")
    expires_in: int = Field(description="Seconds.")
