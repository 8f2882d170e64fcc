"""The tables: what Postgres holds is the truth.

They are all imported here, so that the migrations see the whole schema.
"""

from serve.tables.albums import Album, AlbumPicture
from serve.tables.base import LIVE, Base, JobState
from serve.tables.jobs import (
    MAX_SEED,
    SHOWN,
    CostProfile,
    EventRow,
    Image,
    Job,
    Source,
    Variant,
    Worker,
    numbers_of,
)
from serve.tables.models import Lora, ModelChange
from serve.tables.tenants import ApiKey, Delivery, Secret, Tenant, Usage, Webhook
from serve.tables.trends import Signal, TermCount

__all__ = [
    "LIVE",
    "MAX_SEED",
    "SHOWN",
    "Album",
    "AlbumPicture",
    "ApiKey",
    "Base",
    "CostProfile",
    "Delivery",
    "EventRow",
    "Image",
    "Job",
    "JobState",
    "Lora",
    "ModelChange",
    "Secret",
    "Signal",
    "Source",
    "Tenant",
    "TermCount",
    "Usage",
    "Variant",
    "Webhook",
    "Worker",
    "numbers_of",
]
