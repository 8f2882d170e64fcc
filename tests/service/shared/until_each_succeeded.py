"""A second locustfile: ends the run once each request that is wanted has succeeded."""

from __future__ import annotations

import json
import os
from typing import Any

import gevent
from locust import events
from locust.env import Environment


@events.init.add_listener  # type: ignore[untyped-decorator]
def end_in_time(environment: Environment, **_: Any) -> None:
    left = {tuple(each) for each in json.loads(os.environ["SFUMATO_CLIENT_WANTED"])}

    @environment.events.request.add_listener  # type: ignore[untyped-decorator]
    def note(request_type: str, name: str, exception: Exception | None, **_: Any) -> None:
        if exception is None:
            left.discard((request_type, name))
        if not left and environment.runner is not None:
            gevent.spawn(environment.runner.quit)  # it ends the greenlet that we are in
