"""Sends due deliveries, and tries each again until it has arrived or is dead."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import Counter
from datetime import timedelta
from time import monotonic

import structlog
from opentelemetry.trace import Span, SpanKind

from serve.database import Database, DatabaseUnavailable
from serve.observability import tracing
from serve.observability.meter import UNMETERED, Meter
from serve.observability.metrics import WEBHOOK_ATTEMPTS
from serve.settings import WebhookSettings
from serve.supervise import RoundDone, ignore_round
from serve.webhooks import repository
from serve.webhooks.outbound import Outbound
from serve.webhooks.repository import Answer, Attempt

log = structlog.get_logger(__name__)

GROWTH = 4
PRUNE_EVERY_S = 600.0


class Courier:
    """Runs in every ingress. A delivery that one courier has claimed, the others skip.

    Before it sends a delivery, a courier takes a lease of three time-outs on it. The deliveries
    of a killed courier are due again when their leases end. So a receiver may get an event twice,
    under the same ``webhook-id``, but never not at all.
    """

    def __init__(
        self,
        database: Database,
        settings: WebhookSettings,
        tls: ssl.SSLContext | None = None,
        meter: Meter = UNMETERED,
    ) -> None:
        """``tls`` names the trusted authorities; None means the system's."""
        self._database = database
        self._settings = settings
        self._tls = tls
        self._meter = meter
        self._lease = timedelta(seconds=3 * settings.timeout_s)
        self._share = max(1, settings.concurrency // 4)
        self._sending: dict[asyncio.Task[None], Attempt] = {}
        self._prune_at = monotonic()
        self._outbound: Outbound | None = None

    async def run(self, round_done: RoundDone = ignore_round) -> None:
        """Deliver until cancelled.

        Raises:
            DatabaseUnavailable: nothing could be claimed; run it again.
        """
        self._outbound = self._outbound or Outbound(self._settings, self._tls)
        try:
            while True:
                attempts = await self._claim(round_done)
                round_done()
                for attempt in attempts:
                    with structlog.contextvars.bound_contextvars(**attempt.ids):
                        task = asyncio.create_task(self._deliver(self._outbound, attempt))
                    self._sending[task] = attempt
                    task.add_done_callback(self._sending.pop)
                await self._pause(idle=not attempts)
        except asyncio.CancelledError:  # after an error the deliveries go on
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)
            await self._outbound.aclose()
            self._outbound = None
            raise

    async def _claim(self, round_done: RoundDone) -> list[Attempt]:
        held = Counter(attempt.tenant_id for attempt in self._sending.values())
        busy = [tenant_id for tenant_id, count in held.items() if count >= self._share]
        free = self._settings.concurrency - len(self._sending)
        if monotonic() >= self._prune_at:
            await self._prune(round_done)
        async with self._database.transaction() as session:
            return await repository.claim_due(session, free, self._share, busy, self._lease)

    async def _pause(self, *, idle: bool) -> None:
        """Wait until there may be something to claim, and a free place for it."""
        if idle:
            await asyncio.sleep(self._settings.poll_s)
        if len(self._sending) >= self._settings.concurrency:
            await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)

    async def _deliver(self, outbound: Outbound, attempt: Attempt) -> None:
        unexpected = None
        with tracing.timed("webhook", attempt.trace, SpanKind.CLIENT) as call:
            try:
                answer = await outbound.post(attempt, tracing.context_of(call.span))
            except Exception as error:  # noqa: BLE001 - the next try may find it gone
                unexpected = error
                answer = Answer(None, f"The delivery failed: {type(error).__name__}.")
            _describe(call.span, attempt, answer)
        tell = log.error if unexpected else log.info
        tell("courier.tried", status=answer.status, error=answer.error, exc_info=unexpected)
        try:
            async with self._database.transaction() as session:
                if answer.delivered:
                    result = "delivered"
                    await repository.mark_delivered(session, attempt, answer)
                elif answer.gone:
                    result = "given_up"
                    await repository.disable(session, attempt, answer)
                else:
                    delay = self._delay(attempt.number, answer.retry_after_s)
                    result = "given_up" if delay is None else "retried"
                    await repository.mark_failed(session, attempt, answer, delay)
            self._meter.count(WEBHOOK_ATTEMPTS, result=result)
        except DatabaseUnavailable as error:  # it is sent again after its lease
            log.warning("courier.database_unavailable", error=str(error))
        except Exception:  # likewise; nobody waits for this task
            log.exception("courier.record_failed")

    def _delay(self, number: int, retry_after_s: float) -> timedelta | None:
        """How long to wait after the try of that number; None after the last one.

        The delay is random between 0 and its bound (full jitter). So a receiver that comes back
        does not get all failed deliveries at the same moment. For the same reason a delivery
        waits a random time longer than the receiver's Retry-After.
        """
        if number >= self._settings.attempts:
            return None
        first_s = self._settings.first_delay_s
        delay_s = random.uniform(0, first_s * GROWTH ** (number - 1))  # noqa: S311
        if retry_after_s:
            delay_s = max(delay_s, retry_after_s + random.uniform(0, first_s))  # noqa: S311
        return timedelta(seconds=delay_s)

    async def _prune(self, round_done: RoundDone) -> None:
        keep = timedelta(days=self._settings.keep_days)
        keep_dead = timedelta(days=self._settings.keep_dead_days)
        while True:
            async with self._database.transaction() as session:
                if not await repository.prune(session, keep, keep_dead):
                    break
            round_done()
        self._prune_at = monotonic() + PRUNE_EVERY_S


def _describe(span: Span, attempt: Attempt, answer: Answer) -> None:
    """The URL is left out: it may hold a token."""
    span.set_attributes(
        {
            "http.request.method": "POST",
            "sfumato.webhook.id": str(attempt.webhook_id),
            "sfumato.delivery.id": str(attempt.delivery_id),
            "sfumato.attempt": attempt.number,
        }
    )
    if answer.status is not None:
        span.set_attribute("http.response.status_code", answer.status)
    if not answer.delivered:
        tracing.fail(span, str(answer.status or "no_answer"))
