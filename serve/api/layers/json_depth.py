"""A bound on how deep JSON is nested, before a parser recurses into it."""

from __future__ import annotations

import re
from http import HTTPStatus
from itertools import accumulate

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.layers.refusal import refusal

MAX_DEPTH = 32
_JSON = re.compile(r"application/([^;\s]+\+)?json\s*(;|$)", re.IGNORECASE)
# To its end, or to the body's, so that each byte is looked at once.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_MEANINGLESS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class JsonDepth:
    """Refuses JSON that is nested deeper than anything that is asked for here.

    Reads the whole body, which `BodyLimit` bounds, and hands it on in one piece.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content_type = Headers(scope=scope).get("content-type", "") if "headers" in scope else ""
        if scope["type"] != "http" or not _JSON.match(content_type.strip()):
            await self._app(scope, receive, send)
            return
        chunks: list[bytes] = []
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                await self._app(scope, _first(message, receive), send)
                return
            chunks.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"".join(chunks)
        fault = _fault(body)
        if fault is not None:
            await refusal(scope, HTTPStatus(400), *fault)(scope, receive, send)
            return
        whole: Message = {"type": "http.request", "body": body, "more_body": False}
        await self._app(scope, _first(whole, receive), send)


def _fault(body: bytes) -> tuple[str, str] | None:
    if b"\x00" in body:  # UTF-16 or UTF-32, which Python's parser would take
        return "invalid_json", "The body's JSON must be UTF-8."
    if deeper_than(MAX_DEPTH, body):
        return "json_too_deep", f"The body's JSON is nested deeper than {MAX_DEPTH} levels."
    return None


def deeper_than(limit: int, body: bytes) -> bool:
    """Whether arrays and objects nest deeper; brackets within strings do not count."""
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    brackets = _STRING.sub(b"", body).translate(None, delete=_MEANINGLESS)
    return any(depth > limit for depth in accumulate(map(_STEPS.__getitem__, brackets)))


def _first(message: Message, receive: Receive) -> Receive:
    """Receives that message, and then what else comes."""
    waiting = [message]

    async def receive_first() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_first
