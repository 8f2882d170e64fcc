"""The database's clock, and intervals of it."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import BindParameter, Function, func, select

from serve.database import Session


def seconds(number: float | BindParameter[float]) -> Function[timedelta]:
    """So many seconds as an interval."""
    return func.make_interval(0, 0, 0, 0, 0, 0, number)


async def clock(session: Session) -> datetime:
    """The time by the database's clock, the only one that counts."""
    now: datetime = (await session.scalars(select(func.clock_timestamp()))).one()
    return now
