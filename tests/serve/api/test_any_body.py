"""Whatever JSON comes, the answer is one that is documented."""

from __future__ import annotations

import json

import httpx2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.api.services import Services
from serve.jobs.schemas import JobBody
from serve.openai.schemas import GenerationBody
from serve.webhooks.schemas import WebhookBody
from tests.serve.api.conftest import count_rows

FIELDS = sorted({*JobBody.model_fields, *GenerationBody.model_fields})
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=30)
    | st.sampled_from(["auto", "64x64", "png", "webp", "ddim", "sfumato-embedded"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
BODIES = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), VALUES, max_size=6)
any_body = settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@any_body
@given(body=BODIES | st.fixed_dictionaries({"prompt": st.text(max_size=9)}, optional={}))
async def test_jobs(client: httpx2.AsyncClient, services: Services, body: object) -> None:
    before = await count_rows(services.database, "jobs")
    content = json.dumps(body).encode()

    answer = await client.post(
        "/v1/jobs", content=content, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code in (202, 404, 422), answer.text
    kept = await count_rows(services.database, "jobs") - before
    assert kept == (answer.status_code == 202)


@any_body
@given(body=BODIES)
async def test_generations(client: httpx2.AsyncClient, services: Services, body: object) -> None:
    assert isinstance(body, dict)
    content = json.dumps({**body, "n": 0}).encode()  # which is refused in any case

    answer = await client.post(
        "/v1/images/generations", content=content, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code in (400, 404), answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert await count_rows(services.database, "jobs") == 0


@any_body
@given(
    body=st.dictionaries(st.sampled_from([*WebhookBody.model_fields, "x"]), VALUES, max_size=3)
    | st.fixed_dictionaries({"url": st.text(max_size=30).map("https://{}".format)})
)
async def test_webhooks(client: httpx2.AsyncClient, services: Services, body: object) -> None:
    before = await count_rows(services.database, "webhooks")
    content = json.dumps(body).encode()

    answer = await client.post(
        "/v1/webhooks", content=content, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code in (201, 409, 422), answer.text
    kept = await count_rows(services.database, "webhooks") - before
    assert kept == (answer.status_code == 201)
