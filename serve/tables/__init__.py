"""The tables: what Postgres holds is the truth.

Whoever asks for one gets all of them, so that the migrations see the whole schema.
"""

from serve.tables.base import Base
from serve.tables.images import SHOWN, Image, Source, Variant
from serve.tables.jobs import EventRow, Job
from serve.tables.state import LIVE, JobState
from serve.tables.tenants import ApiKey, Secret, Tenant, Usage
from serve.tables.webhooks import Delivery, Webhook
from serve.tables.workers import CostProfile, Worker, numbers_of

__all__ = [
    "LIVE",
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
