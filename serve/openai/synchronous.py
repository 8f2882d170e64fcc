"""Jobs whose client waits for them on its connection."""

from __future__ import annotations

import asyncio
import contextlib
from uuid import UUID

import anyio
from starlette.requests import Request

from serve.errors import ServiceError
from serve.http.errors import ClientLeft, ServerStopping
from serve.jobs.request import JobRequest
from serve.openai.outcome import outcome_error
from serve.openai.services import OpenAIServices
from serve.tables import Job, JobState


class WaitingClient:
    """Submits a job and waits for its end.

    Who leaves before that takes the job along, unless an Idempotency-Key says that they will be
    back for it.
    """

    def __init__(
        self, services: OpenAIServices, tenant_id: UUID, idempotency_key: str | None = None
    ) -> None:
        self._services = services
        self._tenant_id = tenant_id
        self._key = idempotency_key

    async def submit(self, asked: JobRequest) -> Job:
        """The job, accepted.

        A task of its own: a cancellation could fall between the commit and the job's id, and
        under Python 3.11 redis-py swallows one that arrives while it writes
        (``asyncio.wait_for``).

        Raises:
            IdempotencyConflict, Overloaded: as `Jobs.submit` does.
        """
        submitting = asyncio.create_task(
            self._services.jobs.submit(self._tenant_id, asked, idempotency_key=self._key),
            name="submit",
        )
        try:
            return await asyncio.shield(submitting)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True), contextlib.suppress(ServiceError):
                await self.abandon(await submitting)
            raise

    async def wait(self, job: Job, request: Request) -> Job:
        """The job once it has succeeded.

        Raises:
            JobOutcome: it ended otherwise, or not within the longest wait.
            ClientLeft: nobody waits any more.
            ServerStopping: the process ends before the job.
        """
        waiting = asyncio.create_task(
            self._services.jobs.wait(self._tenant_id, job.id, self._longest_wait_s)
        )
        leaving = asyncio.create_task(_left(request))
        stopping = asyncio.create_task(self._services.drain.over.wait())
        others = (leaving, stopping)
        try:
            await asyncio.wait({waiting, *others}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done() and not waiting.done():
                await self.abandon(job)
                raise ClientLeft("The client left before its pictures were done.")
            if not waiting.done():
                raise await self.stopped(job)
            job = waiting.result()
        except asyncio.CancelledError:
            # Ray Serve cancels the handler of a client that left instead of telling it.
            await self.abandon(job)
            raise
        finally:
            for task in (waiting, *others):
                task.cancel()
            await asyncio.gather(waiting, *others, return_exceptions=True)
        if job.state is not JobState.SUCCEEDED:
            raise outcome_error(job)
        return job

    async def abandon(self, job: Job) -> None:
        """The client has gone: cancel what it will not come back for, whatever is cancelled here.

        It may have ended meanwhile, and nobody is left to be told of a failure.
        """
        if self._key is None:
            with anyio.CancelScope(shield=True), contextlib.suppress(ServiceError):
                await self._services.jobs.cancel(self._tenant_id, job.id)

    async def stopped(self, job: Job) -> ServerStopping:
        """What to tell a client whose pictures this process will not see."""
        await self.abandon(job)
        if self._key is None:
            return ServerStopping(
                "The server restarts before the pictures are done, and has cancelled them; send"
                " the request again."
            )
        return ServerStopping(
            "The server restarts before the pictures are done, and goes on with them afterwards;"
            " send the request again with the same Idempotency-Key."
        )

    @property
    def _longest_wait_s(self) -> float:
        return self._services.wait_timeout_s


async def _left(request: Request) -> None:
    """Return when the client has gone; its body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
