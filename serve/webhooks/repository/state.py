"""Where a delivery stands."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import and_

from serve.tables import Delivery


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"

    @classmethod
    def of(cls, delivery: Delivery) -> DeliveryState:
        if delivery.delivered_at is not None:
            return cls.DELIVERED
        return cls.PENDING if delivery.failed_at is None else cls.DEAD


PENDING = and_(Delivery.delivered_at.is_(None), Delivery.failed_at.is_(None))
IN_STATE = {
    DeliveryState.PENDING: PENDING,
    DeliveryState.DELIVERED: Delivery.delivered_at.is_not(None),
    DeliveryState.DEAD: Delivery.failed_at.is_not(None),
}
