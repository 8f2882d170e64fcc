"""The load: clients that ask for jobs at a steady rate and follow each to its end."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import httpx2

from loadtests.chaos.follower import Follower
from loadtests.chaos.history import History, Operation
from loadtests.chaos.insist import Caller, GaveUp
from loadtests.chaos.plans import JobPlan

_LIVE = ("queued", "running")
_LOOK_EVERY_S = 1.5
_SYNCHRONOUS_TIMEOUT_S = 60.0
_TIMEOUT_S = 15.0
_CONNECTIONS = 400
_AT_ONCE = 150  # more would starve the service of the cores that they share


class Load:
    """Jobs out of ``plans``: one every ``1 / rate`` seconds, and more in a burst."""

    def __init__(
        self,
        plans: Iterator[JobPlan],
        rate: float,
        *,
        url: str,
        key: str,
        history: History,
        patience_s: float,
    ) -> None:
        """A client gives up on one answer, or one event, after ``patience_s`` seconds."""
        self._plans = plans
        self._rate = rate
        self._url = url
        self._key = key
        self._history = history
        self._patience_s = patience_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._http = httpx2.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=_TIMEOUT_S,
            trust_env=False,
            limits=httpx2.Limits(max_connections=_CONNECTIONS),
        )
        self.jobs = 0

    async def run(self, jobs: int) -> None:
        """Start so many jobs at the steady rate; returns while the last are still underway."""
        began = asyncio.get_running_loop().time()
        for number in range(jobs):
            await asyncio.sleep(began + number / self._rate - asyncio.get_running_loop().time())
            self._begin()

    def burst(self, seconds: float, factor: float) -> int:
        """As many jobs at once as ``seconds`` of ``factor`` times the rate; how many."""
        count = round(seconds * factor * self._rate)
        for _ in range(count):
            self._begin()
        return count

    async def settle(self, patience_s: float) -> int:
        """Wait for the clients to finish, as long as one does within ``patience_s`` seconds.

        How many had to be stopped.
        """
        while self._tasks:
            done, _ = await asyncio.wait(
                self._tasks, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._http.aclose()
        return len(left)

    def _begin(self) -> None:
        plan = next(self._plans)
        self.jobs += 1
        task = asyncio.create_task(self._client(plan), name=f"client-{plan.number}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _client(self, plan: JobPlan) -> None:
        name = f"client-{plan.number}"
        async with self._turn:
            caller = Caller(name, self._http, self._history, self._patience_s)
            follower = Follower(name, self._url, self._key, self._history, self._patience_s)
            with suppress(GaveUp):  # the history tells which try was the last
                await JobClient(plan, caller, follower).run()


class JobClient:
    """One job's client, from asking to the files."""

    def __init__(self, plan: JobPlan, caller: Caller, follower: Follower) -> None:
        self._plan = plan
        self._caller = caller
        self._follower = follower

    async def run(self) -> None:
        """Raises GaveUp."""
        plan = self._plan
        if plan.synchronous:
            await self._generate()
            return
        rival = asyncio.create_task(self._submit()) if plan.twice else None
        try:
            job_id = await self._submit()
        finally:
            if rival is not None:
                await rival
        if job_id is None:
            return
        if plan.conflict:
            await self._submit({**plan.body, "prompt": "something else"})
        cancelling = asyncio.create_task(self._cancel_later(job_id))
        try:
            if plan.follow:
                await self._follower.follow(job_id)
            job = await self._look_until_ended(job_id)
        finally:
            await cancelling
        if plan.fetch:
            await self._fetch(job)

    async def _submit(self, body: dict[str, Any] | None = None) -> str | None:
        told = {"key": self._plan.key, "body": body or self._plan.body}
        answer = await self._caller.insist(
            Operation.SUBMIT,
            "POST",
            "/v1/jobs",
            told=told,
            json=told["body"],
            headers={"Idempotency-Key": self._plan.key},
        )
        if not answer.is_success:
            self._caller.fail(Operation.SUBMIT, answer, **told)
            return None
        job = answer.json()
        self._caller.ok(Operation.SUBMIT, **told, job_id=job["id"], state=job["state"])
        job_id: str = job["id"]
        return job_id

    async def _generate(self) -> None:
        told = {"key": self._plan.key, "body": self._plan.body}
        answer = await self._caller.insist(
            Operation.GENERATE,
            "POST",
            "/v1/images/generations",
            told=told,
            json=self._plan.body,
            headers={"Idempotency-Key": self._plan.key},
            timeout=_SYNCHRONOUS_TIMEOUT_S,
        )
        if not answer.is_success:
            self._caller.fail(Operation.GENERATE, answer, **told)
            return
        files = [base64.b64decode(picture["b64_json"]) for picture in answer.json()["data"]]
        self._caller.ok(
            Operation.GENERATE, **told, sha256=[hashlib.sha256(file).hexdigest() for file in files]
        )

    async def _cancel_later(self, job_id: str) -> None:
        if self._plan.cancel_after_s is None:
            return
        await asyncio.sleep(self._plan.cancel_after_s)
        told = {"job_id": job_id}
        answer = await self._caller.insist(
            Operation.CANCEL, "DELETE", f"/v1/jobs/{job_id}", told=told
        )
        if answer.is_success:
            self._caller.ok(Operation.CANCEL, **_seen(answer.json()))
        else:
            self._caller.fail(Operation.CANCEL, answer, **told)

    async def _look_until_ended(self, job_id: str) -> dict[str, Any]:
        told = {"job_id": job_id}
        while True:
            answer = await self._caller.insist(
                Operation.LOOK, "GET", f"/v1/jobs/{job_id}", told=told
            )
            if answer.status_code != HTTPStatus.OK:
                self._caller.fail(Operation.LOOK, answer, **told)
                return {"images": []}
            job: dict[str, Any] = answer.json()
            self._caller.ok(Operation.LOOK, **_seen(job))
            if job["state"] not in _LIVE:
                return job
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _fetch(self, job: dict[str, Any]) -> None:
        for image in job["images"]:
            for variant in image["variants"]:
                told = {"image_id": image["id"], "variant": variant["name"]}
                answer = await self._caller.insist(
                    Operation.FETCH, "GET", variant["url"], told=told
                )
                if answer.is_success:
                    sha256 = hashlib.sha256(answer.content).hexdigest()
                    self._caller.ok(Operation.FETCH, **told, sha256=sha256)
                else:
                    self._caller.fail(Operation.FETCH, answer, **told)


def _seen(job: dict[str, Any]) -> dict[str, Any]:
    """What the history keeps of a job."""
    return {
        "job_id": job["id"],
        "state": job["state"],
        "error": job["error"],
        "succeeded": [image["id"] for image in job["images"] if image["state"] == "succeeded"],
    }
