"""The tables: what Postgres holds is the truth.

Whoever asks for one gets all of them, so that the migrations see the whole schema.
"""

from serve.models.base import Base
from serve.models.images import SHOWN, Image, Source, Variant
from serve.models.jobs import EventRow, Job
from serve.models.state import LIVE, JobState
from serve.models.tenants import ApiKey, Secret, Tenant, Usage
from serve.models.webhooks import Delivery, Webhook
from serve.models.workers import CostProfile, Worker, numbers_of

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
