"""What the app reports to Sentry: unexpected errors, once each, and how long requests took."""

from __future__ import annotations

from contextlib import ExitStack

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from loadtests.collector import collecting
from serve.access.scopes import Scope
from serve.api.app import create_app
from serve.api.services import Services
from serve.database import DatabaseUnavailable
from serve.jobs.admission import Admission
from serve.observability.tracing import start_tracing, stop_tracing
from serve.settings import Settings
from tests.serve.api.conftest import client_of
from tests.serve.observability.told import DSN, reported

PROMPT = "a violet cathedral"
PASSWORD = "T1cketT1cketT1cket"


async def test_an_unexpected_error_is_reported_once(
    client: httpx2.AsyncClient, key: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(f"cannot price {PROMPT} for {key}, see redis://:{PASSWORD}@cache")

    monkeypatch.setattr(Admission, "reserve", broken)
    headers = {"Authorization": f"Bearer {key}", "X-Request-ID": "req-1"}
    with reported(process="ingress") as reports:
        # Over uvicorn, which has a log of its own.
        async with httpx2.AsyncClient(base_url=server, headers=headers) as real:
            answer = await real.post("/v1/jobs?ticket=abc", json={"prompt": PROMPT})
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "req-1")
    assert "x-frame-options" in answer.headers
    (event,) = reports.events
    tenant = event["tags"].pop("tenant_id")
    assert len(tenant) == 36
    assert event["tags"] == {"process": "ingress", "request_id": "req-1"}
    assert event["extra"] == {"path": "/v1/jobs"}
    assert event["exception"]["values"][-1]["type"] == "RuntimeError"
    assert not {"request", "user"} & event.keys()
    assert event["breadcrumbs"]["values"] == []
    for hidden in (PROMPT, key, PASSWORD, "ticket", "127.0.0.1"):
        assert hidden not in reports.sent


async def test_expected_errors_are_not(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise DatabaseUnavailable("Postgres is away.")

    with reported() as reports:
        assert (await anonymous.get("/v1/jobs")).status_code == 401
        assert (await client.get("/v1/nothing")).status_code == 404
        assert (await client.post("/v1/jobs", json={"prompt": ""})).status_code == 422
        monkeypatch.setattr(Admission, "reserve", away)
        assert (await client.post("/v1/jobs", json={"prompt": PROMPT})).status_code == 503
    assert reports.events == []


@pytest.fixture
def settings(settings: Settings) -> Settings:
    update = {"sentry_dsn": SecretStr(DSN), "sentry_traces_sample_rate": 1.0}
    return settings.model_copy(update=update)


@pytest.mark.parametrize("traced", [False, True])
async def test_requests_are_timed_by_one_of_sentry_and_opentelemetry(
    app: FastAPI, services: Services, monkeypatch: pytest.MonkeyPatch, traced: bool
) -> None:
    token, _ = await services.keys.create("first", "test", [Scope.ADMIN])
    with ExitStack() as stack:
        reports = stack.enter_context(reported(traces_sample_rate=1.0))
        if traced:
            collector = stack.enter_context(collecting())
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
            start_tracing(lambda: "one-process")
            stack.callback(stop_tracing)
        async with client_of(create_app(services), token) as client:
            body = {"prompt": PROMPT}
            job = (await client.post("/v1/jobs?a=1", json=body)).json()
            await client.get(f"/v1/jobs/{job['id']}")
    told = [
        (each["transaction"], each["contexts"]["trace"]["data"]["http.response.status_code"])
        for each in reports.transactions
    ]
    timed = [("POST /v1/jobs", 202), ("GET /v1/jobs/{job_id}", 200)]
    assert told == ([] if traced else timed)
    for hidden in (PROMPT, token, "?a=1", job["id"]):
        assert hidden not in reports.sent
