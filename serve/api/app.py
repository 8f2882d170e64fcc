"""The ASGI app: the same under a test client, uvicorn, and Ray Serve's ingress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import structlog
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import Scope

from serve.access import endpoints as access
from serve.access.rate_limit import RateLimitFields
from serve.albums import endpoints as albums
from serve.api import docs, health, metrics
from serve.api.about import ABOUT, TAGS
from serve.api.openapi import DescribedAPI, operation_id
from serve.api.services import Services
from serve.artist import endpoints as artist
from serve.database import DatabaseUnavailable
from serve.events import endpoints as events
from serve.http import problems
from serve.http.address import Cors, plain_origin
from serve.http.http_route import route_path
from serve.http.layers import (
    PROBES,
    AnswerHeaders,
    Calls,
    RequestLimits,
    RequestMetrics,
    TrailingSlash,
    UnexpectedErrors,
)
from serve.jobs import endpoints as jobs
from serve.jobs import event_endpoints as job_events
from serve.models import endpoints as models
from serve.observability.sentry import Transactions
from serve.observability.tracing import tracer_provider
from serve.openai import endpoints as openai
from serve.operator import endpoints as operator
from serve.pictures import endpoints as images
from serve.trends import endpoints as trends
from serve.web import endpoints as gallery
from serve.webhooks import endpoints as webhooks

log = structlog.get_logger(__name__)

_KEY_WITHIN_S = 5.0
_RETRY_S = 1.0
_CORS_TAKES = (
    "Authorization",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Range",
    "X-API-Key",
    "X-Request-ID",
)
_CORS_SHOWS = (
    "Content-Range",
    "ETag",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Job-ID",
    "X-Request-ID",
    "X-Should-Retry",
)


def _is_untraced(scope: Scope) -> bool:
    """Probes tell nothing; a WebSocket lives for hours, and its jobs have traces of their own."""
    return scope["type"] == "websocket" or route_path(scope) in PROBES


_TELEMETRY: TelemetryConfig = {
    "auto_configure": False,  # `start_tracing` does, in every process alike
    "metrics": False,  # the meter's
    "logs": False,  # they would hold the messages of exceptions
    "operation_spans": False,  # five to a request, each of microseconds
    "exclude": _is_untraced,
}


def create_app(services: Services) -> FastAPI:
    """The API and the gallery on these services, which the app starts, and closes at its end.

    To drain the process, set ``app.state.stopping``: open WebSockets then close with 1012, and
    clients reconnect by themselves.
    """
    provider = tracer_provider()
    app = DescribedAPI(
        title="Sfumato",
        summary="Pictures out of haze.",
        description=ABOUT,
        version=version("sfumato"),
        lifespan=_lifespan,
        exception_handlers=problems.HANDLERS,
        docs_url=None,  # FastAPI's page loads its script from a CDN.
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        generate_unique_id_function=operation_id,
        openapi_tags=[{"name": tag, "description": about} for tag, about in TAGS.items()],
        servers=[{"url": services.settings.http.public_url or "/", "description": "This server."}],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        telemetry=_TELEMETRY | {"tracing": provider is not None, "tracer_provider": provider},
    )
    app.state.provided = services.by_type()
    app.state.stopping = asyncio.Event()
    _add_layers(app, services)
    for router in (
        *(room.router for room in (openai, images, albums, jobs, job_events, events, webhooks)),
        openai.models_router,
        models.router,
        operator.router,
        access.tenants_router,
        access.keys_router,
        access.usage_router,
        trends.router,
        artist.router,
        *(room.router for room in (health, metrics, docs, gallery)),
    ):
        app.include_router(router)
    return app


def _add_layers(app: FastAPI, services: Services) -> None:
    """What every request passes; the last added is the outermost."""
    settings = services.settings.http
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(TrailingSlash)
    app.add_middleware(Calls, drain=services.drain)
    app.add_middleware(RequestLimits, settings=settings)
    if settings.allowed_origins:
        app.add_middleware(
            Cors,
            allow_origins=[plain_origin(origin) for origin in settings.allowed_origins],
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=_CORS_TAKES,
            expose_headers=_CORS_SHOWS,
        )
    app.add_middleware(RateLimitFields, limits=services.jobs.admission.rates)
    if services.settings.sentry_times_requests and tracer_provider() is None:
        app.add_middleware(Transactions)
    app.add_middleware(RequestMetrics, meter=services.meter)
    app.add_middleware(AnswerHeaders)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services = app.state.provided[Services]
    await services.bus.start()
    ensuring = asyncio.create_task(_ensure_key(services), name="ensure-key")
    await asyncio.wait({ensuring}, timeout=_KEY_WITHIN_S)
    if ensuring.done():
        ensuring.result()
    yield
    ensuring.cancel()
    app.state.stopping.set()
    await services.bus.close()
    await services.tickets.close()
    await services.answers.close()
    await services.jobs.admission.rates.close()
    await services.database.close()


async def _ensure_key(services: Services) -> None:
    """Store the operator's key, as soon as Postgres answers.

    An app that could not start without Postgres would be gone for longer than Postgres was.
    """
    key = services.settings.api_key
    while key:
        try:
            await services.keys.ensure(key.get_secret_value())
        except DatabaseUnavailable as error:
            log.warning("api.database_unavailable", error=error.message)
            await asyncio.sleep(_RETRY_S)
        else:
            return
