"""What is no coroutine FastAPI gives to a thread, which under load costs more than the answer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from tests.serve.api.test_every_route import each_route


def calls(dependant: Any) -> Iterator[Any]:
    yield dependant.call
    for needed in dependant.dependencies:
        yield from calls(needed)


def is_coroutine(call: Any) -> bool:
    functions = (call, getattr(type(call), "__call__", None))  # noqa: B004 - its function is meant
    return any(
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        for function in functions
    )


def test_no_route_and_nothing_that_it_needs_runs_in_a_thread(app: FastAPI) -> None:
    routes = [route for route in each_route(app) if isinstance(route, APIRoute)]
    found = {
        f"{route.path}: {getattr(call, '__name__', call)}"
        for route in routes
        for call in calls(route.dependant)
        if not is_coroutine(call)
    }
    assert routes
    assert found == set()
