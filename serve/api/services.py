"""What the routes work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.diffusion.catalog import ModelDescription, describe, find_description
from serve.api.checked_files import CheckedFiles
from serve.api.drain import Drain
from serve.api.intake import Intake
from serve.database import Database
from serve.errors import naming_model
from serve.events import EventBus
from serve.jobs.lifecycle import Jobs
from serve.jobs.pictures import Pictures
from serve.jobs.sources import Sources
from serve.observability.metrics import Metrics
from serve.security.keys import Keys
from serve.security.signed_urls import SignedUrls
from serve.security.tenants import Tenants
from serve.security.tickets import Tickets
from serve.settings import Settings
from serve.storage import Storage, open_storage
from serve.supervise import Loop
from serve.webhooks.subscriptions import Webhooks


@dataclass(frozen=True, slots=True)
class Services:
    """One ingress process's connections; the app that is given them starts and closes them."""

    settings: Settings
    database: Database
    bus: EventBus
    jobs: Jobs
    pictures: Pictures
    webhooks: Webhooks
    keys: Keys
    tenants: Tenants
    tickets: Tickets
    signed_urls: SignedUrls
    storage: Storage
    files: CheckedFiles
    metrics: Metrics
    intake: Intake
    drain: Drain
    models: Mapping[str, ModelDescription]
    """By name, the default one first."""
    loops: list[Loop] = field(default_factory=list)
    """Set by whoever starts some beside those of the services themselves."""

    @property
    def running(self) -> list[Loop]:
        """Every background loop of the process that goes on."""
        every = [*self.loops, *self.bus.loops, *self.jobs.loops]
        return [loop for loop in every if not loop.task.done()]


def open_services(settings: Settings) -> Services:
    """The services of one process; nothing is connected yet.

    Raises:
        ModelLoadError: a model's folder is not one.
        ValueError: DATABASE_URL or REDIS_URL is missing.
    """
    if not settings.database_url or not settings.redis_url:
        raise ValueError("Set DATABASE_URL and REDIS_URL, or use `sfumato up`, which starts both.")
    database = Database(settings.database_url.get_secret_value(), settings.database)
    bus = EventBus(settings.redis_url.get_secret_value())
    storage = open_storage(settings.storage)
    pictures, metrics = Pictures(database, storage), Metrics()
    return Services(
        settings=settings,
        database=database,
        bus=bus,
        jobs=Jobs(database, bus, settings),
        pictures=pictures,
        webhooks=Webhooks(database, settings.webhooks),
        keys=Keys(database),
        tenants=Tenants(database),
        tickets=Tickets(settings.redis_url.get_secret_value()),
        signed_urls=SignedUrls(database, settings.http.url_secret, settings.http.url_ttl_s),
        storage=storage,
        files=CheckedFiles(storage, pictures, metrics),
        metrics=metrics,
        intake=Intake(Sources(database, storage)),
        drain=Drain(),
        models={name: _describe(name, model.path) for name, model in settings.served.items()},
    )


def _describe(name: str, path: str) -> ModelDescription:
    with naming_model(name):
        return describe(find_description(path))
