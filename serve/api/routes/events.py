"""The WebSocket that follows many jobs, and the tickets that open it."""

from __future__ import annotations

from fastapi import APIRouter, Response, WebSocket

from serve.api.auth import Reader, ServicesDep, services_of
from serve.api.documented import problems
from serve.api.guarded_route import GuardedRoute
from serve.api.schemas.ticket import TicketOut
from serve.api.socket import EventSocket
from serve.security.tickets import TICKET_S

router = APIRouter(tags=["events"], route_class=GuardedRoute)


@router.websocket("/v1/events")
async def events(websocket: WebSocket) -> None:
    """Resumes by number: whoever names the last event they saw gets the rest, each once."""
    state = websocket.app.state
    with state.metrics.event_socket():
        await EventSocket(websocket, services_of(websocket), state.sockets, state.stopping).serve()


@router.post(
    "/v1/events/tickets",
    status_code=201,
    summary="Get a ticket for the events WebSocket",
    responses=problems(401, 503),
)
async def issue_ticket(response: Response, caller: Reader, services: ServicesDep) -> TicketOut:
    """Opens one connection within 30 seconds, where neither headers nor a first message with
    the key are at hand: `GET /v1/events?ticket=…`."""
    response.headers["Cache-Control"] = "no-store"
    return TicketOut(ticket=await services.tickets.issue(caller), expires_in=TICKET_S)
