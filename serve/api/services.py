"""What the routes work with."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.diffusion.catalog import ModelDescription, describe, find_description
from serve.database import Database
from serve.events import EventBus
from serve.jobs.lifecycle import Jobs
from serve.security.keys import Keys
from serve.settings import Settings
from serve.storage import Storage, open_storage


@dataclass(frozen=True, slots=True)
class Services:
    """One ingress process's connections; the app that is given them starts and closes them."""

    settings: Settings
    database: Database
    bus: EventBus
    jobs: Jobs
    keys: Keys
    storage: Storage
    model: ModelDescription


def open_services(settings: Settings) -> Services:
    """The services of one process; nothing is connected yet.

    Raises:
        ModelLoadError: the model's folder is not one.
        ValueError: DATABASE_URL or REDIS_URL is missing.
    """
    if not settings.database_url or not settings.redis_url:
        raise ValueError("Set DATABASE_URL and REDIS_URL, or use `sfumato up`, which starts both.")
    database = Database(settings.database_url)
    bus = EventBus(settings.redis_url)
    return Services(
        settings=settings,
        database=database,
        bus=bus,
        jobs=Jobs(database, bus, settings),
        keys=Keys(database),
        storage=open_storage(settings.storage),
        model=describe(find_description(settings.model.path)),
    )
