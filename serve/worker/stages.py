"""Where a picture's time goes: its spans and its histogram, both from the same instants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from pipelines.diffusion.request import Timing
from serve.observability import tracing
from serve.observability.meter import Meter
from serve.observability.metrics import PICTURE_STAGE
from serve.observability.tracing import TraceContext
from serve.worker.delivery import StoredPicture
from serve.worker.queue import Claim


class Stages:
    """Those of one claimed picture, each recorded once it is over.

    All instants are of `time.monotonic`, the engine's clock. Its span ``picture`` has a child for
    each stage; a post-process replica adds its own two to ``context``.
    """

    def __init__(self, claim: Claim, pool: str, meter: Meter) -> None:
        """The claim is made now; it has waited until now."""
        self._meter = meter
        self._labels = {"pool": pool, "model": claim.request.model}
        self._claimed = monotonic()
        self._queued = self._claimed - claim.waited_s
        self.outcome = "dropped"
        """Until something else comes of it: the claim was lost, or the replica ended."""
        self._span = tracing.begin(
            "picture",
            claim.trace,
            self._queued,
            attributes={
                "sfumato.job.id": str(claim.job_id),
                "sfumato.image.id": str(claim.image_id),
                "sfumato.worker.id": str(claim.worker_id),
                "sfumato.attempt": claim.attempt,
                "sfumato.pool": pool,
                "sfumato.model": claim.request.model,
                "sfumato.width": claim.request.width,
                "sfumato.height": claim.request.height,
            },
        )
        tracing.record("queue", self._span, self._queued, self._claimed)

    @property
    def context(self) -> TraceContext | None:
        """By which another process continues the picture's span."""
        return tracing.context_of(self._span)

    def drawn(self, timing: Timing) -> None:
        """The engine is through with it. It waits twice: to be claimed, and for its place."""
        engine = (
            ("load", self._claimed, timing.loaded, None),
            ("queue", timing.loaded, timing.begun, None),
            ("encode", timing.begun, timing.encoded, None),
            (
                "denoise",
                timing.encoded,
                timing.denoised,
                {"sfumato.steps": timing.steps, "sfumato.batch.mean": timing.batch},
            ),
            ("decode", timing.denoised, timing.decoded, None),
        )
        for name, began, ended, attributes in engine:
            tracing.record(name, self._span, began, ended, attributes)
        waited_s = self._claimed - self._queued
        self._observe("waiting", waited_s + timing.begun - timing.loaded)
        self._observe("loading", timing.loaded - self._claimed)
        self._observe("encoding", timing.encoded - timing.begun)
        self._observe("denoising", timing.denoised - timing.encoded)
        self._observe("decoding", timing.decoded - timing.denoised)

    def stored(self, stored: StoredPicture) -> None:
        """The replica that did it has recorded its spans."""
        self._observe("postprocessing", stored.postprocessing_s)
        self._observe("storing", stored.storing_s)

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Until the claim is ended in Postgres."""
        with tracing.timed("commit", self.context) as commit:
            yield
        self._observe("committing", commit.seconds)

    def failed(self, code: str) -> None:
        self.outcome = "failed"
        tracing.fail(self._span, code)

    def end(self) -> None:
        """The picture's life in this replica is over."""
        self._span.set_attribute("sfumato.outcome", self.outcome)
        self._span.end()

    def _observe(self, stage: str, seconds: float) -> None:
        self._meter.observe(PICTURE_STAGE, seconds, stage=stage, **self._labels)
