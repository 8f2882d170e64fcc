"""A call of the running service, by the commands that need it."""

from __future__ import annotations

from typing import Any

import httpx2

from serve.cli.target import api_key, base_url, key_file
from serve.errors import ServiceError
from serve.settings import Settings

_BINARY = {"Content-Type": "application/octet-stream"}


class CallFailed(ServiceError):
    """The call was not made, or was refused; the message says why."""


def call(
    settings: Settings,
    method: str,
    path: str,
    body: object = None,
    timeout_s: float = 60.0,
    file: bytes | None = None,
) -> Any:
    """What the service answers, from JSON; None for an empty answer. ``file`` is sent as it is.

    Raises:
        CallFailed: there is no key, no service answers, or it refuses.
    """
    key = api_key(settings)
    if key is None:
        raise CallFailed(
            "There is no key: set SFUMATO_API_KEY, or start `sfumato up`, which makes one in"
            f" {key_file(settings)}."
        )
    try:
        answer = httpx2.request(
            method,
            f"{base_url(settings)}{path}",
            json=body,
            content=file,
            headers={"Authorization": f"Bearer {key}", **({} if file is None else _BINARY)},
            timeout=timeout_s,
            trust_env=False,  # the service is on this machine: a proxy would not find it
        )
    except httpx2.HTTPError as error:
        raise CallFailed(
            f"No service answers at {base_url(settings)} ({error}); start one with `sfumato up`."
        ) from error
    if not answer.is_success:
        raise CallFailed(f"Refused ({answer.status_code}): {_reason(answer)}")
    return answer.json() if answer.content else None


def _reason(answer: httpx2.Response) -> str:
    """The sentence in OpenAI's error, or in a problem document."""
    try:
        told = answer.json()
        return str(told["error"]["message"] if "error" in told else told["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text
