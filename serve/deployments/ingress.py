"""The ingress replica: the FastAPI app on its own connections, and the reaper beside it."""

from __future__ import annotations

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from serve.api.app import create_app
from serve.api.services import Services, open_services
from serve.observability.logging import configure_logging
from serve.settings import Settings


@serve.ingress()
class Ingress:
    """Answers HTTP and WebSocket. Imports no torch."""

    def __init__(self, settings: Settings, _diffusion: DeploymentHandle) -> None:
        # The handle is never called: binding it makes the three one application.
        configure_logging(settings.log_format)
        self._services: Services = open_services(settings)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self._services)
