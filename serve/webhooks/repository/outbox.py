"""What puts an event on its way, as part of the statement that appends it."""

from __future__ import annotations

from sqlalchemy import Insert, Integer, Text, Uuid, any_, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from serve.tables import Delivery, Webhook


def _outbox() -> Insert:
    event_type = bindparam("type", type_=Text)
    subscribed = (
        select(
            Webhook.id,
            Webhook.tenant_id,
            bindparam("job_id", type_=Uuid),
            bindparam("seq", type_=Integer),
            event_type,
        )
        .where(
            Webhook.tenant_id == bindparam("tenant_id", type_=Uuid),
            Webhook.disabled_at.is_(None),
            event_type == any_(Webhook.events),
        )
        .with_for_update(read=True)
    )
    return insert(Delivery).from_select(
        ["webhook_id", "tenant_id", "job_id", "seq", "type"], subscribed
    )


OUTBOX = _outbox()
"""Puts the event ``job_id``, ``seq``, ``type`` on its way to every webhook of ``tenant_id``.

Part of the statement that appends the event. The webhooks' rows are share-locked: one that is
deleted or disabled meanwhile would break the foreign key, or keep a delivery that nobody sends.
"""
