"""LoRAs that are uploaded while the service runs: from the operator's file to a picture."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save as save_arrays

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.request import LoraScale
from pipelines.diffusion.runner import EngineRunner
from pipelines.embedded import MODEL_PATH
from serve.api.app import create_app
from serve.api.services import Services, open_services
from serve.deployments.pool import open_pool
from serve.pictures.stored_file import LoraKey
from serve.settings import ModelSettings, Settings
from serve.worker.claims import Claims
from serve.worker.source import SourceLoader
from serve.worker.worker import Worker
from tests.pipelines.diffusion.lora.lora_files import matrices, save_kohya, save_peft
from tests.pipelines.diffusion.tiny import flux
from tests.pipelines.diffusion.tiny.stable_diffusion import build_pipeline
from tests.serve.api.conftest import client_of
from tests.serve.api.test_adapters import ASKED, WORKER, alone, drawn
from tests.serve.worker.test_worker import Shelf

MODEL = "sfumato-embedded"
MODELS = "/v1/operator/models"
LORAS = f"{MODELS}/{MODEL}/loras"
KINDS = {"Content-Type": "application/octet-stream"}
WASH = {"loras": [{"name": "wash", "scale": 0.7}]}
SCALED = (LoraScale("wash", 0.7),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, two LoRAs for it and one for another."""
    folder = tmp_path_factory.mktemp("tiny")
    pipeline = build_pipeline()
    pipeline.save_pretrained(folder)
    save_peft(folder / "ink.safetensors", matrices(pipeline, seed=1))
    kohyas = matrices(pipeline, 2, take=lambda name: "embedding" not in name)
    save_kohya(folder / "wash.safetensors", kohyas, lambda _: 2.0)
    other = matrices(flux.build_dev(), 1, take=lambda name: name.startswith("transformer."))
    save_peft(folder / "flux.safetensors", other)
    return folder


@pytest.fixture
def services(settings: Settings, folder: Path) -> Services:
    """The model is configured with `ink`."""
    tiny = ModelSettings(path=str(folder), loras={"ink": folder / "ink.safetensors"})
    return open_services(
        settings.model_copy(update={"model": tiny, "worker": WORKER, "models": {}})
    )


@pytest.fixture
def configured(services: Services, folder: Path) -> Services:
    """As if `wash` and `ink` had been there from the start."""
    files = {name: folder / f"{name}.safetensors" for name in ("ink", "wash")}
    tiny = services.settings.model.model_copy(update={"loras": files})
    return open_services(services.settings.model_copy(update={"model": tiny}))


@asynccontextmanager
async def replica(services: Services, folder: Path) -> AsyncIterator[DiffusionEngine]:
    """Its worker, which keeps LoRAs in the folder."""
    engine = DiffusionEngine(open_pool(services.settings), WORKER.max_batch, threads=1)
    claims = Claims(services.database, services.bus, list(services.settings.served))
    sources = SourceLoader(services.storage, WORKER, folder)
    worker = Worker(claims, services.bus, sources.load, Shelf(services.storage), WORKER)
    runner = EngineRunner(engine, worker.take)
    runner.start()
    task = asyncio.create_task(worker.run(runner, "cpu"))
    yield engine
    await worker.drain()
    await task


async def upload(operator: httpx2.AsyncClient, name: str, file: Path | bytes) -> httpx2.Response:
    content = file if isinstance(file, bytes) else await asyncio.to_thread(file.read_bytes)
    return await operator.put(f"{LORAS}/{name}", content=content, headers=KINDS)


async def ended(client: httpx2.AsyncClient, job: dict[str, Any]) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while job["state"] in ("queued", "running"):
            await asyncio.sleep(0.05)
            job = (await client.get(f"/v1/jobs/{job['id']}")).json()
    return job


async def picture_of(client: httpx2.AsyncClient, job: dict[str, Any]) -> NDArray[np.uint8]:
    job = await ended(client, job)
    assert job["state"] == "succeeded", job
    file = await client.get(f"/v1/images/{job['images'][0]['id']}/original")
    return np.asarray(Image.open(io.BytesIO(file.content)))


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.abs(one.astype(int) - other).max())


async def test_the_next_request_is_drawn_as_with_one_configured_at_the_start(
    client: httpx2.AsyncClient,
    operator: httpx2.AsyncClient,
    services: Services,
    configured: Services,
    folder: Path,
    tmp_path: Path,
) -> None:
    async with replica(services, tmp_path / "one") as engine:
        plain = await drawn(client)
        model = engine.models.load(MODEL)
        uploaded = await upload(operator, "wash", folder / "wash.safetensors")
        assert uploaded.status_code == 201, uploaded.text
        first = await drawn(client, **WASH)
        both = await drawn(client, loras=[{"name": "ink"}, *WASH["loras"]])
        assert engine.models.load(MODEL) is model, "the model was not loaded again"
        [kept] = (tmp_path / "one").iterdir()
    async with replica(services, tmp_path / "other"):
        second = await drawn(client, **WASH)

    assert kept.read_bytes() == (folder / "wash.safetensors").read_bytes()
    assert difference(first, plain) > 2
    assert np.array_equal(first, alone(configured, loras=SCALED))
    assert np.array_equal(both, alone(configured, loras=(LoraScale("ink"), *SCALED)))
    assert np.array_equal(first, second)


async def test_one_that_is_replaced_or_removed_changes_no_job_that_was_accepted(
    client: httpx2.AsyncClient,
    operator: httpx2.AsyncClient,
    services: Services,
    configured: Services,
    folder: Path,
    tmp_path: Path,
) -> None:
    body = {**ASKED, **WASH}
    headers = {"Idempotency-Key": "one"}
    await upload(operator, "wash", folder / "ink.safetensors")
    before = (await client.post("/v1/jobs", json=body, headers=headers)).json()
    replaced = await upload(operator, "wash", folder / "wash.safetensors")
    assert replaced.status_code == 200
    after = (await client.post("/v1/jobs", json=body)).json()
    again = (await client.post("/v1/jobs", json=body, headers=headers)).json()
    assert (await operator.delete(f"{LORAS}/wash")).status_code == 204
    refused = await client.post("/v1/jobs", json=body)
    async with replica(services, tmp_path / "loras"):  # both in one batch
        pictures = [await picture_of(client, job) for job in (before, after)]

    assert again["id"] == before["id"], "what was sent is the same"
    told = "loras: There is no LoRA 'wash'; this model has 'ink'."
    assert (refused.status_code, refused.json()["detail"]) == (422, told)
    expected = alone(configured, loras=(LoraScale("ink", 0.7),)), alone(configured, loras=SCALED)
    assert difference(*expected) > 2
    for drawn_so, alike in zip(pictures, expected, strict=True):
        assert difference(drawn_so, alike) <= 1  # in a batch sums round otherwise


async def test_a_file_that_was_changed_in_storage_or_does_not_fit_fails_its_job_alone(
    client: httpx2.AsyncClient,
    operator: httpx2.AsyncClient,
    services: Services,
    folder: Path,
    tmp_path: Path,
) -> None:
    async with replica(services, tmp_path / "loras"):
        for name in ("wash", "flux"):
            assert (await upload(operator, name, folder / f"{name}.safetensors")).is_success
        sha256 = hashlib.sha256((folder / "wash.safetensors").read_bytes()).hexdigest()
        stored = services.settings.data_dir / "pictures" / str(LoraKey(sha256))
        stored.write_bytes((folder / "ink.safetensors").read_bytes())
        jobs = [
            (await client.post("/v1/jobs", json={**ASKED, "loras": loras})).json()
            for loras in (WASH["loras"], [{"name": "flux"}], [{"name": "ink"}])
        ]
        changed, unfit, sound = [await ended(client, job) for job in jobs]

    assert changed["state"] == "failed"
    told = f"The file of the LoRA 'wash@{sha256[:16]}' was changed in storage."
    assert changed["error"] == told
    assert unfit["state"] == "failed"
    assert unfit["error"].startswith("LoRA 'flux@")
    assert "choose a LoRA that was trained for this model" in unfit["error"]
    assert str(tmp_path) not in unfit["error"]
    assert sound["state"] == "succeeded"


async def test_every_ingress_knows_it_at_once(
    operator: httpx2.AsyncClient, services: Services, key: str
) -> None:
    app = create_app(open_services(services.settings))
    body = {**ASKED, **WASH}
    async with app.router.lifespan_context(app), client_of(app, key) as elsewhere:
        for file in (LORA, MORE):
            await upload(operator, "wash", file)
            job = await elsewhere.post("/v1/jobs", json=body)
            sha256 = hashlib.sha256(file).hexdigest()
            assert job.json()["params"]["lora_files"] == {"wash": sha256}
        await operator.delete(f"{LORAS}/wash")
        assert (await elsewhere.post("/v1/images/generations", json=body)).status_code == 400


async def test_what_an_operator_sees(
    client: httpx2.AsyncClient, operator: httpx2.AsyncClient, services: Services, folder: Path
) -> None:
    other = open_services(services.settings)
    file = (folder / "wash.safetensors").read_bytes()
    added = await upload(operator, "wash", file)
    same = await upload(operator, "wash", file)
    assert (added.status_code, same.status_code) == (201, 200)
    assert added.json() == same.json()
    [model] = (await operator.get(MODELS)).json()["data"]
    assert [(each["name"], each["configured"]) for each in model["loras"]] == [
        ("ink", True),
        ("wash", False),
    ]
    told = model["loras"][1]
    assert (told["sha256"], told["size"]) == (hashlib.sha256(file).hexdigest(), len(file))
    assert (await client.get(f"/v1/models/{MODEL}")).json()["loras"] == ["ink", "wash"]
    await other.models.look()
    assert other.served.loras(MODEL) == ["ink", "wash"]

    assert (await operator.delete(f"{LORAS}/wash")).status_code == 204
    gone = await operator.delete(f"{LORAS}/wash")
    assert (gone.status_code, gone.json()["code"]) == (404, "lora_not_found")
    await other.models.look()
    assert other.served.loras(MODEL) == ["ink"]
    await other.database.close()


HADA = save_arrays({"unet.a.hada_w1_a": np.zeros((2, 2), np.float32)})
PLAIN = save_arrays({"unet.conv_in.weight": np.zeros((2, 2), np.float32)})
LORA = save_arrays({"unet.a.lora_A.weight": np.zeros((2, 2), np.float32)})
MORE = save_arrays({"unet.a.lora_A.weight": np.ones((2, 2), np.float32)})


@pytest.mark.parametrize(
    ("file", "told"),
    [
        (b"", "The file is not a safetensors file"),
        (b"PK\x03\x04 a pickle", "The file is not a safetensors file"),
        (LORA[:-1], "The file is not a safetensors file"),
        (HADA, "The file holds a LoHa, not a LoRA"),
        (PLAIN, "The file holds no LoRA"),
    ],
)
async def test_what_is_no_lora_is_refused(
    operator: httpx2.AsyncClient, services: Services, file: bytes, told: str
) -> None:
    refused = await upload(operator, "wash", file)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_value")
    assert refused.json()["detail"].startswith(told)
    assert [page async for page in services.storage.list("loras")] == []


async def test_refusals(operator: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    configured = await upload(operator, "ink", LORA)
    assert (configured.status_code, configured.json()["code"]) == (409, "lora_configured")
    unknown = await operator.put(f"{MODELS}/unknown/loras/wash", content=LORA, headers=KINDS)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "model_not_found")
    padded = await operator.put(f"{LORAS}/%20wash", content=LORA, headers=KINDS)
    assert padded.status_code == 422
    for answer in (await upload(client, "wash", LORA), await client.delete(f"{LORAS}/wash")):
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")


async def test_it_may_be_as_large_as_other_uploads(
    operator: httpx2.AsyncClient, settings: Settings
) -> None:
    large = save_arrays({"unet.a.lora_A.weight": np.zeros(300_000, np.float32)})
    assert len(large) > settings.http.max_body_bytes
    assert (await upload(operator, "wash", large)).status_code == 201
    bare = await operator.put(f"{LORAS}/bare", content=large)  # as `curl --upload-file` does
    assert bare.status_code == 201
    as_json = {"Content-Type": "application/json"}
    refused = await operator.put(f"{LORAS}/other", content=large, headers=as_json)
    assert refused.status_code == 413


async def test_those_of_a_model_that_is_removed_go_with_it(
    operator: httpx2.AsyncClient, services: Services
) -> None:
    twin = {"name": "some/twin", "path": str(MODEL_PATH)}
    await operator.post(MODELS, json=twin)
    added = await operator.put(f"{MODELS}/some/twin/loras/wash", content=LORA, headers=KINDS)
    assert added.status_code == 201, added.text
    assert services.served.loras("some/twin") == ["wash"]
    assert (await operator.delete(f"{MODELS}/some/twin")).status_code == 204
    await operator.post(MODELS, json=twin)
    assert services.served.loras("some/twin") == []
