"""What the log has of a request: one line, with every id that is known by its end."""

from __future__ import annotations

import httpx2
import pytest
from fastapi import FastAPI

from loadtests.collector import collecting
from serve.api.app import create_app
from serve.api.services import Services
from serve.jobs.admission import Admission
from serve.observability.tracing import start_tracing, stop_tracing
from tests.serve.api.conftest import client_of
from tests.serve.observability.told import logged

PROMPT = "a violet cathedral"
TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_a_request_is_one_line_with_its_ids(client: httpx2.AsyncClient) -> None:
    body = {"prompt": PROMPT}
    with logged() as lines:
        job = (await client.post("/v1/jobs", json=body, headers={"X-Request-ID": "one"})).json()
        await client.get(f"/v1/jobs/{job['id']}", headers={"X-Request-ID": "two"})
        await client.delete(f"/v1/jobs/{job['id']}", headers={"X-Request-ID": "three"})
        await client.get("/v1/jobs", headers={"X-Request-ID": "four"})
    told = lines.of("http.request")
    assert [line["request_id"] for line in told] == ["one", "two", "three", "four"]
    assert [line.get("job_id") for line in told] == [*[job["id"]] * 3, None]
    assert len({line["tenant_id"] for line in told}) == 1
    assert [line["status"] for line in told] == [202, 200, 200, 200]
    assert len(lines.text.splitlines()) == 4
    assert list(told[0])[:3] == ["timestamp", "level", "event"]
    assert not any("trace_id" in line for line in told)


async def test_a_refusal_s_line_has_the_problem_s_code(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient
) -> None:
    with logged() as lines:
        await client.post("/v1/jobs", json={"prompt": PROMPT, "n": 0})
        await anonymous.post("/v1/jobs", json={"prompt": PROMPT})
        await client.get("/v1/jobs")
    told = [(line["status"], line.get("code")) for line in lines.of("http.request")]
    assert told == [(422, "invalid_value"), (401, "missing_api_key"), (200, None)]
    assert "tenant_id" not in lines.of("http.request")[1], "of the request before it"


async def test_an_unexpected_error_is_told_once_with_the_ids(
    client: httpx2.AsyncClient, server: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(f"cannot price {PROMPT}")

    monkeypatch.setattr(Admission, "reserve", broken)
    headers = {"Authorization": f"Bearer {key}", "X-Request-ID": "one"}
    with logged() as lines:
        async with httpx2.AsyncClient(base_url=server, headers=headers) as real:
            answer = await real.post("/v1/jobs", json={"prompt": PROMPT})
    assert answer.json()["request_id"] == "one"
    (error,), (request,) = lines.of("api.unexpected"), lines.of("http.request")
    assert len(lines.text.splitlines()) == 2
    assert error["request_id"] == request["request_id"] == "one"
    assert error["tenant_id"] == request["tenant_id"]
    assert (request["status"], request["code"]) == (500, "internal_error")
    assert error["exception"][0]["exc_value"] == "cannot price [redacted]"


async def test_a_line_names_the_client_s_trace(
    app: FastAPI, services: Services, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
        start_tracing(lambda: "one-process")
        try:
            with logged() as lines:
                async with client_of(create_app(services), key) as client:
                    traceparent = f"00-{TRACE}-b7ad6b7169203331-01"
                    await client.get("/v1/jobs", headers={"traceparent": traceparent})
        finally:
            stop_tracing()
    (line,) = lines.of("http.request")
    assert line["trace_id"] == TRACE
