"""Trends as clients ask for them and see them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from serve.http.fields import RowOut
from serve.trends.terms import TermKind
from serve.trends.trends import Order, Window


class TrendQuery(BaseModel):
    """Query parameters."""

    model_config = ConfigDict(extra="forbid")

    window: Window = Field(Window.DAY, description="How far back.")
    kind: TermKind | None = Field(None, description="Subjects, styles or colours alone.")
    order: Order = Field(
        Order.RISING,
        description="`rising`: what is asked for more than before comes first; `top`: what is asked"
        " for most, the latest counting most.",
    )
    scope: Literal["mine", "all"] = Field(
        "mine", description="Your tenant's, or those that enough tenants share."
    )
    limit: int = Field(20, ge=1, le=100, description="Terms at most.")


class TrendOut(RowOut):
    """A term, and how often it was asked for, liked and saved within the window."""

    kind: TermKind = Field(examples=["subject"])
    term: str = Field(examples=["heart"])
    asked: int = Field(examples=[12])
    favoured: int = Field(examples=[3])
    downloaded: int = Field(examples=[1])
    score: float = Field(
        description="Asked, and twice the downloads, and three times the favourites, with a"
        " half-life of half the window.",
        examples=[14.2],
    )
    rise: float = Field(
        description="By how many standard deviations this is more than the four windows before let"
        " expect; below 0 it is less.",
        examples=[4.1],
    )


class TrendList(BaseModel):
    """The most important first."""

    data: list[TrendOut]
    window: Window
