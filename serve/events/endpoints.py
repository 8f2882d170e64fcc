"""The WebSocket that follows many jobs, and the tickets that open it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from serve.access.auth import GuardedRoute, Reader
from serve.access.tickets import TICKET_S, Tickets, TicketsUnavailable
from serve.events.schemas import TicketOut
from serve.events.socket import EventSocket
from serve.http.documented import problems, success
from serve.http.provided import Provided

router = APIRouter(tags=["events"], route_class=GuardedRoute)

_TICKET = {"ticket": "wLr0H6u0bq1mD7yT9oJcXfZk2sV5nEpA", "expires_in": TICKET_S}


@router.websocket("/v1/events")
async def events(socket: Annotated[EventSocket, Depends()]) -> None:
    """Resumes by number: a client that names its last event gets the rest, each once."""
    await socket.serve()


@router.post(
    "/v1/events/tickets",
    status_code=201,
    summary="Get a ticket for the events WebSocket",
    responses={**success(201, example=_TICKET), **problems(TicketsUnavailable)},
)
async def issue_ticket(response: Response, caller: Reader, tickets: Provided[Tickets]) -> TicketOut:
    """Opens one connection within 30 seconds, where neither headers nor a first message with
    the key are at hand: `GET /v1/events?ticket=…`."""
    response.headers["Cache-Control"] = "no-store"
    return TicketOut(ticket=await tickets.issue(caller), expires_in=TICKET_S)
