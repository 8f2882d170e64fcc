"""What the routes work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import get_type_hints

from serve.access.keys import Keys
from serve.access.tenants import Tenants
from serve.access.tickets import Tickets
from serve.albums.albums import Albums
from serve.answer_cache import AnswerCache
from serve.artist.artist import Artist
from serve.artist.exhibition import Exhibition
from serve.database import Database
from serve.events.bus import EventBus
from serve.events.socket import OpenSockets
from serve.http.drain import Drain
from serve.jobs.autonomous import Author
from serve.jobs.lifecycle import Jobs
from serve.jobs.limits import ServedModels
from serve.jobs.sourcing import Sourcing
from serve.models.loras import Loras
from serve.models.models import Models
from serve.observability import tracing
from serve.observability.device import ProcessSample
from serve.observability.meter import Meter, Meters
from serve.observability.registry import Registry
from serve.observability.sampler import Sampler
from serve.pictures.checked_files import CheckedFiles
from serve.pictures.conversions import Conversions
from serve.pictures.credentials import open_signer, open_verifier
from serve.pictures.pictures import Pictures
from serve.pictures.signed_urls import SignedUrls
from serve.pictures.sources import Intake
from serve.settings import Settings
from serve.storage import Storage, open_storage
from serve.supervise import Loop
from serve.trends.trends import Trends
from serve.webhooks.subscriptions import Webhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """One ingress process's connections; the app that is given them starts and closes them."""

    settings: Settings
    database: Database
    answers: AnswerCache
    bus: EventBus
    storage: Storage
    served: ServedModels
    models: Models
    loras: Loras
    jobs: Jobs
    pictures: Pictures
    albums: Albums
    files: CheckedFiles
    conversions: Conversions
    intake: Intake
    signed_urls: SignedUrls
    webhooks: Webhooks
    keys: Keys
    tenants: Tenants
    trends: Trends
    artist: Artist
    exhibition: Exhibition
    tickets: Tickets
    meter: Meter
    registry: Registry
    """What ``/metrics`` shows of what the meter records."""
    sampler: Sampler
    """Not started yet; a scrape samples once more."""
    drain: Drain
    sockets: OpenSockets
    loops: list[Loop] = field(default_factory=list)
    """Background loops beside those of the services themselves; their starter adds them."""

    def by_type(self) -> dict[type, object]:
        """What routes may ask for, as `serve.http.provided` looks it up."""
        jobs = self.jobs
        sourcing = Sourcing(jobs, self.pictures, self.files, self.intake)
        parts = (
            self,
            sourcing,
            self.bus.tally,
            jobs.feeds,
            jobs.admission.rates,
            jobs.admission.ledger,
        )
        named = get_type_hints(type(self)).items()
        return {
            **{kind: getattr(self, name) for name, kind in named},
            **{type(part): part for part in parts},
            Author: self.artist,
        }

    @property
    def running(self) -> list[Loop]:
        """Every background loop of the process that goes on."""
        every = [*self.loops, *self.bus.loops, *self.jobs.feeds.loops]
        return [loop for loop in every if not loop.task.done()]


def open_services(settings: Settings, *outlets: Meter) -> Services:
    """The services of one process; nothing is connected yet.

    What ``/metrics`` shows of the process is recorded by the outlets as well.

    Raises:
        ModelLoadError: a model's folder is not one.
        GrammarError: a grammar's file cannot be used.
        ValueError: DATABASE_URL or REDIS_URL is missing.
    """
    if not settings.database_url or not settings.redis_url:
        raise ValueError("Set DATABASE_URL and REDIS_URL, or use `sfumato up`, which starts both.")
    registry = Registry(tracing.exemplar)
    meter = Meters(registry, *outlets)
    database = Database(settings.database_url.get_secret_value(), settings.database, meter=meter)
    bus = EventBus(settings.redis_url.get_secret_value(), meter=meter)
    storage = open_storage(settings.storage, meter)
    answers = AnswerCache(settings.redis_url.get_secret_value(), meter)
    pictures = Pictures(database, storage, answers)
    jobs, served = Jobs(database, bus, storage, settings, meter), ServedModels.read(settings)
    models = Models(database, settings, served, jobs.admission)
    files = CheckedFiles(storage, pictures, meter, redirects=settings.storage_redirects)
    sockets = OpenSockets(settings.http.max_sockets_per_tenant, meter)
    trends, urls = Trends(database, settings.trends), SignedUrls(database, settings.http)
    return Services(
        settings=settings,
        database=database,
        answers=answers,
        bus=bus,
        jobs=jobs,
        pictures=pictures,
        albums=Albums(database, answers),
        webhooks=Webhooks(database, settings.webhooks),
        keys=Keys(database, meter),
        tenants=Tenants(database),
        trends=trends,
        artist=Artist(database, jobs, trends, served),
        exhibition=Exhibition(database, urls),
        tickets=Tickets(settings.redis_url.get_secret_value()),
        signed_urls=urls,
        storage=storage,
        files=files,
        conversions=Conversions(database, storage, files, answers, open_signer(settings)),
        intake=Intake(database, storage, partial(open_verifier, settings)),
        meter=meter,
        registry=registry,
        sampler=Sampler(ProcessSample(meter).sample, database.sample, sockets.sample),
        drain=Drain(),
        served=served,
        models=models,
        loras=Loras(database, storage, served, models),
        sockets=sockets,
    )
