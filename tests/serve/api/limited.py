"""A tenant with limits, and what its pictures cost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx2
import pytest
from sqlalchemy import event

from serve.api.services import Services
from serve.jobs.price import PriceList
from serve.jobs.request import JobRequest

SAMPLING = {"num_inference_steps": 8, "guidance_scale": 3.0}
PROMPT = {"prompt": "a red heart", "size": "64x64", **SAMPLING}
_REQUEST = JobRequest(model="any", prompt="a red heart", width=64, height=64, seed=0, **SAMPLING)  # type: ignore[arg-type]
EACH = PriceList().price(_REQUEST).device
"""GPU seconds of one picture of ``PROMPT``, by a model that was never measured."""

Limit = Callable[..., Awaitable[None]]


@pytest.fixture
async def limit(client: httpx2.AsyncClient, operator: httpx2.AsyncClient) -> Limit:
    """Sets limits of the tenant `first`."""
    tenant_id = (await client.get("/v1/usage")).json()["tenant_id"]

    async def set_limits(**limits: float) -> None:
        answer = await operator.patch(f"/v1/tenants/{tenant_id}", json={"limits": limits})
        assert answer.status_code == 200, answer.text

    return set_limits


@pytest.fixture
def queries(services: Services, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that a request brings to Postgres; the door looks at the backlog once."""
    monkeypatch.setattr("serve.jobs.admission._FRESH_S", 60)
    seen: list[str] = []
    event.listen(
        services.database.engine.sync_engine,
        "before_cursor_execute",
        lambda *told: seen.append(str(told[2])),
    )
    return seen
