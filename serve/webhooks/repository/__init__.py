"""Every query on webhooks and deliveries. None of them commits.

A webhook's row is locked before its deliveries. Whoever takes deliveries first skips those that
others hold, so that no two transactions can wait for each other.
"""

from serve.webhooks.repository.deliveries import (
    count_deliveries,
    load_deliveries,
    lock_delivery,
    revive,
)
from serve.webhooks.repository.outbox import OUTBOX
from serve.webhooks.repository.sending import claim_due, disable, mark_delivered, mark_failed, prune
from serve.webhooks.repository.state import DeliveryState
from serve.webhooks.repository.webhooks import (
    count_webhooks,
    delete_webhook,
    insert_webhook,
    load_webhook,
    load_webhooks,
    lock_tenant,
    rotate,
)

__all__ = [
    "OUTBOX",
    "DeliveryState",
    "claim_due",
    "count_deliveries",
    "count_webhooks",
    "delete_webhook",
    "disable",
    "insert_webhook",
    "load_deliveries",
    "load_webhook",
    "load_webhooks",
    "lock_delivery",
    "lock_tenant",
    "mark_delivered",
    "mark_failed",
    "prune",
    "revive",
    "rotate",
]
