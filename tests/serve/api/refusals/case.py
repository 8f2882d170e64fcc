"""One thing that is asked wrongly, and how it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Endless:
    """A chunked body of so many bytes, sent until the server has answered."""

    total: int = 2**30
    chunk: bytes = b" " * 65536


@dataclass(frozen=True, slots=True)
class Case:
    """A request over HTTP, sent byte for byte.

    ``{image}``, ``{job}`` and the other names of `Door.names` may stand in ``path``, ``headers``
    and ``key``.
    """

    name: str
    method: str
    path: str
    status: int
    code: str | None
    """Of the error; None where the server refuses before there is an app."""
    body: object = None
    """Bytes go as they are, `Endless` chunk by chunk, anything else as JSON."""
    headers: Mapping[str, str] | tuple[tuple[str, str], ...] = field(default_factory=dict)
    """A Content-Type of "" is not sent; with a body it is application/json by default."""
    key: str | None = "{key}"
    """What is sent as `Authorization: Bearer`."""
    param: str | None = None
    """The field at fault, where the error must name one."""


@dataclass(frozen=True, slots=True)
class Knock:
    """A WebSocket on /v1/events."""

    name: str
    close: int
    """The code by which the server ends it; 403 where it is not accepted, 0 where it stays."""
    code: str | None = None
    """Of the problem that is told before."""
    query: str = ""
    says: tuple[str | bytes, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None


def both(name: str, body: object, status: int, code: str, **more: str) -> list[Case]:
    """The same body to both routes that draw; OpenAI's clients know 400, not 422."""
    openai = 400 if status == 422 else status
    return [
        Case(f"job: {name}", "POST", "/v1/jobs", status, code, body, **more),  # type: ignore[arg-type]
        Case(
            f"generation: {name}",
            "POST",
            "/v1/images/generations",
            openai,
            code,
            body,
            **more,  # type: ignore[arg-type]
        ),
    ]
