"""The WebSocket that follows many jobs."""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from serve.api.auth import services_of
from serve.api.socket import EventSocket

router = APIRouter()


@router.websocket("/v1/events")
async def events(websocket: WebSocket) -> None:
    """Resumes by number: whoever names the last event they saw gets the rest, each once."""
    await EventSocket(websocket, services_of(websocket), websocket.app.state.stopping).serve()
