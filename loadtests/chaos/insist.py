"""A client's request, repeated until its answer is definite; every try is in the history."""

from __future__ import annotations

import asyncio
import random
from http import HTTPStatus
from time import monotonic
from typing import Any

import httpx2

from loadtests.chaos.history import History, Operation, Phase

_LONGEST_PAUSE_S = 2.0
_UNSURE = {408, 425, 429}


class GaveUp(Exception):
    """No definite answer came for as long as a client is patient."""


class Caller:
    """One client: a name in the history and a way to the service."""

    def __init__(
        self, name: str, http: httpx2.AsyncClient, history: History, patience_s: float
    ) -> None:
        self.name = name
        self._http = http
        self.history = history
        self._until = monotonic() + patience_s
        self._chance = random.Random(name)  # only for pauses between tries

    async def insist(
        self,
        operation: Operation,
        method: str,
        path: str,
        *,
        told: dict[str, Any],
        **request: Any,
    ) -> httpx2.Response:
        """The definite answer: the service's own word, for or against.

        The caller adds the ``ok`` or ``fail`` that it means; ``told`` is what each record says.

        Raises:
            GaveUp: there was none in time.
        """
        pause_s = 0.1
        while True:
            self.history.add(self.name, Phase.INVOKE, operation, **told)
            try:
                answer = await self._http.request(method, path, **request)
            except httpx2.HTTPError as error:
                reason = type(error).__name__
            else:
                if _definite(answer):
                    return answer
                reason = f"{answer.status_code} {error_code(answer) or 'of the proxy'}"
            self.history.add(self.name, Phase.INFO, operation, **told, reason=reason)
            if monotonic() > self._until:
                raise GaveUp(f"{operation} {path}: {reason}")
            await asyncio.sleep(pause_s * self._chance.uniform(0.5, 1.5))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    def ok(self, operation: Operation, **value: Any) -> None:
        self.history.add(self.name, Phase.OK, operation, **value)

    def fail(self, operation: Operation, answer: httpx2.Response, **value: Any) -> None:
        self.history.add(
            self.name,
            Phase.FAIL,
            operation,
            **value,
            status=answer.status_code,
            code=error_code(answer),
        )


def _definite(answer: httpx2.Response) -> bool:
    """Whether the service itself has spoken; what Ray Serve's proxy says of it is not."""
    if answer.headers.get("X-Should-Retry") == "false":
        return True
    if answer.status_code in _UNSURE or answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return False
    return answer.is_success or error_code(answer) is not None


def error_code(answer: httpx2.Response) -> str | None:
    """The service's code of a refusal, in either shape; None where it is not the service's."""
    try:
        said = answer.json()
    except ValueError:
        return None
    if not isinstance(said, dict):
        return None
    detail = said.get("error", said)
    return detail.get("code") if isinstance(detail, dict) else None
