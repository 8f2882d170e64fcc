"""`locust -f loadtests/locustfile.py`: people who use a running service, of five kinds.

The service is at SFUMATO_URL, and SFUMATO_API_KEY opens it; by default they are those of
`sfumato up` in this folder. A shape of load is a further file:
`-f loadtests/locustfile.py,loadtests/shapes/ramp.py`.
"""

from __future__ import annotations

import base64
import io
import itertools
import os
import random
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

import gevent
import orjson
import requests
import websocket
from locust import HttpUser, between, events, task
from locust.env import Environment
from PIL import Image

from serve.cli.target import api_key, base_url, settings

SETTINGS = settings()
URL = os.environ.get("SFUMATO_URL") or base_url(SETTINGS)
KEY = api_key(SETTINGS) or ""
PROMPTS = ("red heart", "a cat", "blue dog", "a house", "green apple", "a star")
STEPS = (4, 8, 20)
PATIENCE_S = 120.0
LONGEST_PAUSE_S = 10.0
"""After a refusal, whatever its Retry-After."""
ENDS = {"job.succeeded", "job.failed", "job.cancelled", "job.expired"}


T = TypeVar("T")
Size = tuple[int, int]


@events.init.add_listener  # type: ignore[untyped-decorator]
def check(environment: Environment, **_: Any) -> None:
    """End with a line that says what to do, unless the service is ready and takes the key.

    With the web page it is only a warning: the service may be started later.
    """
    options = environment.parsed_options
    url = (options.host if options else None) or URL
    problem = _problem(url)
    if problem is None:
        return
    sys.stderr.write(f"{problem}\n")
    if options is not None and options.headless:
        sys.exit(2)


def _problem(url: str) -> str | None:
    http = requests.Session()
    http.trust_env = False  # a proxy would not find this machine's loopback
    try:
        ready = http.get(f"{url}/ready", timeout=10)
        headers = {"Authorization": f"Bearer {KEY}"}
        mine = http.get(f"{url}/v1/jobs", params={"limit": 1}, headers=headers, timeout=10)
    except requests.RequestException:
        return f"No service answers at {url}: start one with `sfumato up`, or set SFUMATO_URL."
    if not ready.ok:
        return f"The service at {url} is not ready: {ready.text}"
    if not mine.ok:
        return f"{url} does not take the key: set SFUMATO_API_KEY to one of its keys."
    return None


class Person(HttpUser):
    """Asks, and pauses for as long as a refusal says."""

    abstract = True
    host = URL
    wait_time = between(0.2, 1.0)

    def on_start(self) -> None:
        self.client.headers["Authorization"] = f"Bearer {KEY}"
        self.client.trust_env = False

    def ask(
        self,
        method: str,
        path: str,
        read: Callable[[requests.Response], T],
        name: str | None = None,
        **options: Any,
    ) -> T | None:
        """What ``read`` makes of the answer; if it raises, the answer counts as a failure.

        None after a failure and after a refusal. A refusal (429 with Retry-After) is what a service
        answers that has enough to do: it counts under a name of its own, not as a failure.
        """
        pause = 0.0
        with self.client.request(
            method, path, name=name, catch_response=True, timeout=PATIENCE_S, **options
        ) as answer:
            retry_after = answer.headers.get("Retry-After")
            if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS and retry_after is not None:
                answer.request_meta["name"] += " (refused)"
                answer.success()
                pause = min(float(retry_after), LONGEST_PAUSE_S)
            elif not answer.ok:
                answer.failure(f"{answer.status_code} {answer.text or answer.error}")
            else:
                try:
                    return read(answer)
                except (LookupError, ValueError, OSError) as error:
                    answer.failure(repr(error))
        gevent.sleep(pause)
        return None

    def submit(self, steps: int) -> str | None:
        """The id of a new job."""
        return self.ask(
            "POST", "/v1/jobs", lambda answer: str(answer.json()["id"]), json=body(steps)
        )


class SynchronousPerson(Person):
    """Waits for the picture in the answer, as OpenAI's client does."""

    @task
    def generate(self) -> None:
        self.ask("POST", "/v1/images/generations", first_picture, json=body(random.choice(STEPS)))


class FollowingPerson(Person):
    """Submits a job, follows it by WebSocket to its end, and downloads the picture."""

    @task
    def follow(self) -> None:
        job_id = self.submit(random.choice(STEPS))
        if job_id is None:
            return
        began, failure, events = time.time(), None, 0
        try:
            events = self._read_to_end(job_id)
        except (websocket.WebSocketException, OSError, ValueError) as error:
            failure = error
        self.environment.events.request.fire(
            request_type="WS",
            name="/v1/events: a job to its end",
            response_time=1000 * (time.time() - began),
            response_length=events,
            exception=failure,
            context=self.context(),
            start_time=began,
        )
        images = self.ask(
            "GET", f"/v1/jobs/{job_id}", lambda job: job.json()["images"], "/v1/jobs/[id]"
        )
        for image in images or []:
            path = f"/v1/images/{image['id']}/original"
            self.ask("GET", path, lambda file: decoded(file.content), "/v1/images/[id]/original")

    def _read_to_end(self, job_id: str) -> int:
        """How many events came.

        Raises:
            WebSocketException, OSError: the connection ended before the job.
            ValueError: the job did not succeed.
        """
        socket = websocket.create_connection(
            f"{self.host}/v1/events".replace("http", "ws", 1),
            header=[f"Authorization: Bearer {KEY}"],
            timeout=PATIENCE_S,
            http_no_proxy=["*"],
        )
        try:
            socket.send(orjson.dumps({"type": "watch", "job_id": job_id}).decode())
            for count in itertools.count(1):
                kind = orjson.loads(socket.recv())["type"]
                if kind in ENDS:
                    if kind != "job.succeeded":
                        raise ValueError(f"The job ended with {kind}.")
                    return count
                if count % 16 == 0:
                    socket.send(orjson.dumps({"type": "ack", "messages": count}).decode())
        finally:
            socket.close()
        raise AssertionError  # for mypy: counting has no end


class EditingPerson(Person):
    """Sends a picture and gets it drawn anew."""

    @task
    def edit(self) -> None:
        picture = io.BytesIO()
        colour = tuple(random.randbytes(3))
        Image.new("RGB", (64, 64), colour).save(picture, "PNG")
        fields = {"prompt": random.choice(PROMPTS), "num_inference_steps": 8}
        files = {"image": ("source.png", picture.getvalue(), "image/png")}
        self.ask("POST", "/v1/images/edits", first_picture, data=fields, files=files)


class BrowsingPerson(Person):
    """Opens the gallery, searches it, and looks at thumbnails."""

    @task
    def browse(self) -> None:
        self.ask("GET", "/", lambda page: page.text.index("<title>"))
        query = {"limit": 20, "q": random.choice(("red", "cat OR dog", "house"))}
        listed = self.ask(
            "GET", "/v1/images", lambda found: found.json()["data"], "/v1/images", params=query
        )
        for image in (listed or [])[:6]:
            path = f"/v1/images/{image['id']}/thumbnail"
            self.ask("GET", path, lambda file: decoded(file.content), "/v1/images/[id]/thumbnail")


class CancellingPerson(Person):
    """Submits a long job and cancels it after a moment."""

    @task
    def cancel(self) -> None:
        job_id = self.submit(150)
        if job_id is None:
            return
        gevent.sleep(random.uniform(0, 1))
        self.ask("DELETE", f"/v1/jobs/{job_id}", is_cancelled, "/v1/jobs/[id]")


def body(steps: int) -> dict[str, Any]:
    """A request for one picture."""
    return {"prompt": random.choice(PROMPTS), "num_inference_steps": steps}


def first_picture(answer: requests.Response) -> Size:
    """Raises as `decoded` does."""
    return decoded(base64.b64decode(answer.json()["data"][0]["b64_json"]))


def decoded(file: bytes) -> Size:
    """The size in pixels.

    Raises:
        OSError: it is no whole picture.
    """
    with Image.open(io.BytesIO(file)) as image:
        image.load()
        return image.size


def is_cancelled(answer: requests.Response) -> bool:
    """Raises ValueError unless it is."""
    state = answer.json()["state"]
    if state != "cancelled":
        raise ValueError(f"The job is {state}.")
    return True
