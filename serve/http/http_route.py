"""Routes that keep HTTP's habits: HEAD wherever GET is, and what is empty counts as left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any
from urllib.parse import unquote_plus

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from serve.http.fields import is_left_out


def route_path(scope: Scope) -> str:
    """The path without ASGI's ``root_path``, which servers put before it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class HttpRoute(APIRoute):
    """Answers HEAD as it answers GET, without the body, unless a route before it takes HEAD.

    Optional query parameters and headers that are sent empty are dropped.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        if match is Match.PARTIAL and self._is_head_of_get(scope):
            match = Match.FULL
        return match, found

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        changes = self._without_empty(scope)
        if self._is_head_of_get(scope):
            changes["method"], send = "GET", _without_body(send)
        await super().handle({**scope, **changes}, receive, send)

    def _is_head_of_get(self, scope: Scope) -> bool:
        methods = self.methods or ()
        return scope.get("method") == "HEAD" and "GET" in methods and "HEAD" not in methods

    def _without_empty(self, scope: Scope) -> dict[str, Any]:
        query, headers = self._optional
        changes: dict[str, Any] = {}
        if query and (sent := scope["query_string"]):
            pairs = (pair for pair in sent.split(b"&") if not _is_empty(query, *_decoded(pair)))
            changes["query_string"] = b"&".join(pairs)
        if headers:
            changes["headers"] = [
                (name, value)
                for name, value in scope["headers"]
                if not _is_empty(headers, name.decode("latin-1"), value.decode("latin-1").strip())
            ]
        return changes

    @cached_property
    def _optional(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Annotations of the optional query parameters and headers, by their names as sent."""
        query: dict[str, Any] = {}
        headers: dict[str, Any] = {}
        for dependant in _with_dependencies(self.dependant):
            query |= _optional(dependant.query_params)
            headers |= _optional(dependant.header_params)
        return query, {name.lower(): annotation for name, annotation in headers.items()}


def _with_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for each in dependant.dependencies:
        yield from _with_dependencies(each)


def _optional(parameters: Iterable[Any]) -> dict[str, Any]:
    """Of a model of parameters, its fields."""
    found: dict[str, Any] = {}
    for parameter in parameters:
        annotation = parameter.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            fields = annotation.model_fields.items()
        else:
            fields = {parameter.alias: parameter.field_info}.items()
        found |= {name: field.annotation for name, field in fields if not field.is_required()}
    return found


def _is_empty(optional: dict[str, Any], name: str, value: str) -> bool:
    return name in optional and is_left_out(value, optional[name])


def _decoded(pair: bytes) -> tuple[str, str]:
    name, _, value = pair.decode("latin-1").partition("=")
    return unquote_plus(name), unquote_plus(value)


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
        elif not message.get("more_body", False):
            await send({"type": "http.response.body"})

    return send_head
