"""The bad-input catalogue: each is refused as documented, keeps nothing, and tells nothing."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.conftest import new_database
from tests.serve.api.described import described
from tests.serve.api.refusals import CASES
from tests.serve.api.refusals.answer import Answer, ask, filled
from tests.serve.api.refusals.case import Case, Endless, Knock
from tests.serve.api.refusals.door import Door, open_door, parsed
from tests.serve.api.refusals.paths import NOBODYS

MEMORY_BYTES = 16 * 2**20
TYPES = {401: "authentication_error", 403: "permission_error"}
"""OpenAI's, of all that is no `invalid_request_error`."""
LEAKS = (
    "Traceback",
    'File "',
    "site-packages",
    "sqlalchemy",
    "asyncpg",
    "pydantic",
    "SELECT ",
    "INSERT ",
    "root:x:0:0",
)


@pytest.fixture(scope="module")
async def door(
    postgres_url: str,
    template_database: str,
    valkey_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Door]:
    folder: Path = tmp_path_factory.mktemp("door")
    with new_database(postgres_url, template_database) as database_url:
        async with open_door(database_url, valkey_url, folder) as door:
            yield door


def test_names_are_the_cases_own() -> None:
    names = [case.name for case in CASES]

    assert sorted(set(names)) == sorted(names)
    assert len(names) >= 80


def test_every_refusal_is_documented() -> None:
    paths = [
        (re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))), verbs)
        for path, verbs in described()["paths"].items()
    ]
    documented = 0
    for case in CASES:
        if isinstance(case, Knock) or case.code in (None, "not_found", "method_not_allowed"):
            continue
        for path, verbs in paths:
            operation = verbs.get(case.method.lower())
            if operation and path.fullmatch(case.path.partition("?")[0]):
                assert str(case.status) in operation["responses"], case.name
                documented += 1
    assert documented > 400


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_refused(door: Door, case: Case | Knock) -> None:
    kept, memory = door.before or await door.seen()
    door.log_lines()

    if isinstance(case, Knock):
        told = await _knock(door, case)
    else:
        answer = await ask(door.host, door.port, case, door.names)
        told = answer.body.decode() + json.dumps(dict(answer.headers))
        _check(case, answer)

    door.before = await door.seen()
    assert door.before[0] == kept
    assert door.before[1] - memory < MEMORY_BYTES
    assert [leak for leak in LEAKS if leak in told] == []
    logged = door.log_lines()
    assert [line for line in logged if parsed(line)["level"] in ("error", "critical")] == []
    asked = filled(getattr(case, "path", ""), door.names)
    for secret in door.secrets:
        assert secret not in told or secret in asked
        assert secret not in "".join(logged)


def _check(case: Case, answer: Answer) -> None:
    assert answer.status == case.status, answer.body[:500]
    if isinstance(case.body, Endless):
        assert 0 < answer.sent < case.body.total // 32
    if case.code is None:
        assert "set-cookie" not in answer.headers
        return
    said = json.loads(answer.body)
    if case.path.startswith("/v1/images"):
        assert answer.headers["content-type"] == "application/json"
        assert set(said) == {"error"}
        error = said["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] == (TYPES.get(case.status, "invalid_request_error"))
        text = error["message"]
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        error = said
        assert set(said) - {"param"} == {"type", "title", "status", "detail", "code", "request_id"}
        assert said["status"] == case.status
        assert said["request_id"] == answer.headers["x-request-id"]
        text = said["detail"]
    assert error["code"] == case.code
    assert 0 < len(text) < 1200
    if case.param:
        assert error["param"] == case.param
        assert case.param in text
    assert len(answer.headers["x-request-id"]) == 32
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers
    if case.status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
    if case.status == 405:
        assert answer.headers["allow"]


async def _knock(door: Door, case: Knock) -> str:
    """What was told over the socket, which ended as the case has it."""
    url = f"ws://{door.host}:{door.port}/v1/events{filled(case.query, door.names)}"
    headers = {name: filled(value, door.names) for name, value in case.headers.items()}
    if case.key is not None:
        headers["Authorization"] = f"Bearer {filled(case.key, door.names)}"
    if case.close == 403:
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, additional_headers=headers)
        assert refused.value.response.status_code == 403
        return str(refused.value.response.body)
    async with connect(url, additional_headers=headers) as socket:
        told = await _say(socket, case, door)
    problems = [message["problem"]["code"] for message in map(json.loads, told)]
    assert problems == ([case.code] if case.code else [])
    return "".join(told)


async def _say(socket: ClientConnection, case: Knock, door: Door) -> list[str]:
    told: list[str] = []
    async with asyncio.timeout(10):
        try:
            for message in case.says:
                await socket.send(
                    filled(message, door.names) if isinstance(message, str) else message
                )
            while case.close or not told:
                told.append(str(await socket.recv()))
        except ConnectionClosed:
            assert socket.close_code == case.close, socket.close_reason
        else:
            assert case.close == 0
    return told


async def test_a_prompt_of_many_lines_is_a_prompt(door: Door) -> None:
    """CR and LF are part of what people write; they reach neither a header nor a log line."""
    prompt = "a red heart\r\nSet-Cookie: a=1\r\n2026-01-01 [info] key.revoked\tبنفسجي 🎟"
    door.log_lines()
    door.before = None
    async with httpx2.AsyncClient(base_url=f"http://{door.host}:{door.port}") as client:
        answer = await client.post(
            "/v1/jobs", json={"prompt": prompt}, headers={"X-API-Key": door.names["key"]}
        )

    assert answer.status_code == 202
    assert answer.json()["prompt"] == prompt
    assert "set-cookie" not in answer.headers
    logged = door.log_lines()
    assert [parsed(line)["event"] for line in logged].count("http.request") == 1
    assert "red heart" not in "".join(logged)


@pytest.mark.parametrize(
    ("verb", "path", "allowed"),
    [
        ("PUT", "/v1/jobs", "GET, HEAD, POST"),
        ("GET", "/v1/images/generations", "POST"),
        ("DELETE", "/v1/images/edits", "POST"),
        ("PUT", f"/v1/images/{NOBODYS}", "DELETE, GET, HEAD, PATCH"),
        ("POST", f"/v1/images/{NOBODYS}/original", "GET, HEAD"),
    ],
)
async def test_refused_verb_is_told_every_verb_of_the_path(
    client: httpx2.AsyncClient, verb: str, path: str, allowed: str
) -> None:
    answer = await client.request(verb, path)

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_failure_of_our_own_is_told_in_shape(
    app: FastAPI, anonymous: httpx2.AsyncClient
) -> None:
    @app.get("/v1/images/broken")
    async def broken() -> None:
        raise RuntimeError("a secret")

    app.router.routes.insert(0, app.router.routes.pop())
    answer = await anonymous.get("/v1/images/broken")

    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
