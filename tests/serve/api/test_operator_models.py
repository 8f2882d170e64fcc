"""Models that are added, paused and removed while the service runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from pipelines.diffusion.request import EngineStats
from pipelines.embedded import MODEL_PATH
from serve.api.services import Services, open_services
from serve.worker.claims import Claims
from serve.worker.reaper import Reaper

TWIN = {"name": "twin", "path": str(MODEL_PATH), "max_steps": 30, "aliases": ["double"]}
URL = "/v1/operator/models"


async def states(operator: httpx2.AsyncClient) -> dict[str, str]:
    listed = (await operator.get(URL)).json()["data"]
    return {model["name"]: model["state"] for model in listed}


async def submit(client: httpx2.AsyncClient, model: str) -> httpx2.Response:
    return await client.post("/v1/jobs", json={"prompt": "red heart", "model": model})


async def test_a_model_is_added_used_and_removed(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient, services: Services
) -> None:
    assert (await submit(client, "twin")).status_code == 404
    added = await operator.post(URL, json=TWIN)
    assert added.status_code == 201, added.text
    status = added.json()
    assert status["since"] is not None
    expected = {"name": "twin", "pool": "default", "state": "active", "configured": False}
    assert {name: status[name] for name in expected} == expected

    assert (await client.get("/v1/models/double")).json()["max_steps"] == 30
    job = (await submit(client, "twin")).json()
    assert job["params"]["model"] == "twin"
    listed = {each["name"]: each for each in (await operator.get(URL)).json()["data"]}
    assert (listed["twin"]["queued"], listed["twin"]["running"]) == (1, 0)

    assert (await operator.delete(f"{URL}/twin")).status_code == 204
    assert (await submit(client, "twin")).status_code == 404
    assert "twin" not in await states(operator)
    await Reaper(services.database, services.bus, services.settings).reap()
    ended = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert (ended["state"], ended["error_code"]) == ("failed", "model_removed")
    assert "twin" in ended["error"]


async def test_another_ingress_follows_with_its_next_look(
    operator: httpx2.AsyncClient, services: Services
) -> None:
    other = open_services(services.settings)
    await operator.post(URL, json=TWIN)
    await operator.patch(f"{URL}/flow", json={"paused": True})
    await other.models.look()
    assert other.served.limits("double").model == "twin"
    assert "flow" in other.served.paused
    assert other.jobs.admission.queues["default"].models == ["sfumato-embedded", "twin"]
    await operator.delete(f"{URL}/twin")
    await operator.patch(f"{URL}/flow", json={"paused": False})
    await other.models.look()
    assert other.served.paused == {}
    assert list(other.served.descriptions) == ["sfumato-embedded", "flow"]
    await other.database.close()


async def test_a_paused_model_keeps_its_queue_and_takes_no_jobs(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    job = (await submit(client, "flow")).json()
    paused = (await operator.patch(f"{URL}/flow", json={"paused": True})).json()
    assert (paused["state"], paused["queued"]) == ("paused", 1)
    refused = await submit(client, "flow")
    assert (refused.status_code, refused.json()["code"]) == (409, "model_paused")
    assert "takes no jobs since 20" in refused.json()["detail"]
    pictures = await client.post("/v1/images/generations", json={"prompt": "x", "model": "flow"})
    assert pictures.json()["error"]["code"] == "model_paused"
    assert (await submit(client, "sfumato-embedded")).status_code == 202
    assert (await client.get("/v1/models/flow")).status_code == 200
    assert (await client.get(f"/v1/jobs/{job['id']}")).json()["state"] == "queued"

    resumed = (await operator.patch(f"{URL}/flow", json={"paused": False})).json()
    assert resumed["state"] == "active"
    assert (await submit(client, "flow")).status_code == 202


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"name": "flow"}, 409, "model_exists"),
        ({"aliases": ["dall-e-3"]}, 409, "model_exists"),
        ({"pool": "large"}, 404, "pool_not_found"),
        ({"path": "/no/such/folder"}, 422, "invalid_value"),
        ({"path": ""}, 422, "invalid_value"),
        ({"path": f"/{'long' * 100}"}, 422, "invalid_value"),
        ({"stesp": 3}, 422, "invalid_value"),
        ({"default_steps": 200, "max_steps": 30}, 422, "invalid_value"),
        ({"name": " twin"}, 422, "invalid_value"),
    ],
)
async def test_what_cannot_be_added(
    operator: httpx2.AsyncClient, change: dict[str, Any], status: int, code: str
) -> None:
    refused = await operator.post(URL, json={**TWIN, **change})
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    assert list(await states(operator)) == ["sfumato-embedded", "flow"]


async def test_what_the_configuration_names_is_paused_not_removed(
    operator: httpx2.AsyncClient,
) -> None:
    refused = await operator.delete(f"{URL}/flow")
    assert (refused.status_code, refused.json()["code"]) == (409, "model_configured")
    assert (await operator.delete(f"{URL}/unknown")).status_code == 404
    missing = await operator.patch(f"{URL}/unknown", json={"paused": True})
    assert (missing.status_code, missing.json()["code"]) == (404, "model_not_found")


async def test_one_that_is_still_drawn_with_is_not_replaced(
    operator: httpx2.AsyncClient, services: Services
) -> None:
    await operator.post(URL, json=TWIN)
    await operator.delete(f"{URL}/twin")
    claims = Claims(services.database, services.bus, ["sfumato-embedded", "twin"])
    worker_id = await claims.register("cpu", 8)
    await claims.heartbeat(worker_id, EngineStats(), draining=False)
    busy = await operator.post(URL, json=TWIN)
    assert (busy.status_code, busy.json()["code"]) == (409, "model_busy")
    claims.models = ("sfumato-embedded",)
    await claims.heartbeat(worker_id, EngineStats(), draining=False)
    assert (await operator.post(URL, json=TWIN)).status_code == 201


async def test_operators_alone(client: httpx2.AsyncClient) -> None:
    for answer in (
        await client.get(URL),
        await client.post(URL, json=TWIN),
        await client.patch(f"{URL}/flow", json={"paused": True}),
        await client.delete(f"{URL}/flow"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")


async def test_a_declaration_is_taken_whole_or_not_at_all(
    operator: httpx2.AsyncClient, services: Services, tmp_path: Path
) -> None:
    declare = services.models.declare
    twin = {name: value for name, value in TWIN.items() if name != "name"}
    await declare({"models": {"twin": twin}, "paused": ["flow"]})
    assert await states(operator) == {
        "sfumato-embedded": "active",
        "flow": "paused",
        "twin": "active",
    }
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"models": {"lost": {"path": str(tmp_path)}}}, "path: "),
        ({"models": {"twin": twin}, "paused": ["unknown"]}, "'unknown', which is not served"),
        ({"models": {"twin": {**twin, "stesp": 3}}}, "stesp"),
        ({"modles": {}}, "modles"),
        ({"models": {"twin": None}}, "models.0"),
        ({"models": {"lost": {"path": f"/{'long' * 100}"}}}, "cannot be read"),
        ({"models": [TWIN, TWIN]}, "names 'twin' twice"),
        ({"models": {"other": {**twin, "aliases": ["flow"]}}}, "'flow' would name two models"),
    ]
    for user_config, reason in wrong:
        await declare(user_config)
        listed = (await operator.get(URL)).json()
        assert reason in listed["declaration_error"]
        assert {each["name"]: each["state"] for each in listed["data"]}["flow"] == "paused"
    await operator.post(URL, json={**TWIN, "name": "by-hand", "aliases": []})
    await declare({})
    assert (await operator.get(URL)).json()["declaration_error"] is None
    assert await states(operator) == {
        "sfumato-embedded": "active",
        "flow": "active",
        "by-hand": "active",
    }


async def test_a_fault_of_ours_is_told_and_ends_no_replica(
    operator: httpx2.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object) -> None:
        raise RuntimeError("unexpected")

    monkeypatch.setattr("serve.models.models.describe_model", fault)
    await services.models.declare({"models": {"twin": {"path": str(MODEL_PATH)}}})
    listed = (await operator.get(URL)).json()
    assert listed["declaration_error"] == "RuntimeError: unexpected"
