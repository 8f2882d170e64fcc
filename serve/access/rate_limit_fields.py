"""Tells on every answer what is left of the caller's rate limits."""

from __future__ import annotations

import math

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.access.gcra import Rate
from serve.access.keys import Principal
from serve.access.rate_limit import Policy, RateLimits


class RateLimitFields:
    """`RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11.

    A bucket of ``q`` that fills in ``w`` seconds, of which ``r`` are left and which is full in
    ``t`` seconds. Nothing is told where nothing is limited, or nothing was asked of a bucket yet.
    """

    def __init__(self, app: ASGIApp, limits: RateLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_fields(message: Message) -> None:
            caller: Principal | None = scope.get("state", {}).get("principal")
            if message["type"] == "http.response.start" and caller is not None:
                seen = self._limits.seen(caller.tenant_id)
                if seen:
                    headers = MutableHeaders(scope=message)
                    headers["RateLimit-Policy"] = ", ".join(
                        _policy(name, rate) for name, (rate, _) in seen.items()
                    )
                    headers["RateLimit"] = ", ".join(
                        f'"{name}";r={int(taken.remaining)};t={math.ceil(taken.full_in_s)}'
                        for name, (_, taken) in seen.items()
                    )
            await send(message)

        await self._app(scope, receive, send_with_fields)


def _policy(name: Policy, rate: Rate) -> str:
    unit = "" if name is Policy.REQUESTS else f';qu="{name}"'
    return f'"{name}";q={int(rate.burst)};w={math.ceil(rate.depth_s)}{unit}'
