"""What a transaction may ask of Postgres itself."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import BindParameter, Function, func, select

from serve.database import Session


def seconds(number: float | BindParameter[float]) -> Function[timedelta]:
    """As an interval."""
    return func.make_interval(0, 0, 0, 0, 0, 0, number)


async def clock(session: Session) -> datetime:
    """The database's clock: the only one that counts."""
    now: datetime = (await session.scalars(select(func.clock_timestamp()))).one()
    return now
