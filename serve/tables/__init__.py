"""The tables: what Postgres holds is the truth.

They are all imported here, so that the migrations see the whole schema.
"""

from serve.tables.base import LIVE, Base, JobState
from serve.tables.jobs import MAX_SEED, SHOWN, EventRow, Image, Job, Source, Variant
from serve.tables.tenants import ApiKey, Secret, Tenant, Usage
from serve.tables.webhooks import Delivery, Webhook
from serve.tables.workers import CostProfile, Worker, numbers_of

__all__ = [
    "LIVE",
    "MAX_SEED",
    "SHOWN",
    "ApiKey",
    "Base",
    "CostProfile",
    "Delivery",
    "EventRow",
    "Image",
    "Job",
    "JobState",
    "Secret",
    "Source",
    "Tenant",
    "Usage",
    "Variant",
    "Webhook",
    "Worker",
    "numbers_of",
]
