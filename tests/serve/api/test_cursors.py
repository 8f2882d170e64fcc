"""Where a page begins: only what the page before said, and only in its own list."""

from __future__ import annotations

import base64

import httpx2


async def test_other_cursors_are_refused(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    for prompt in ("one", "two", "three"):
        for each in (client, stranger):
            assert (await each.post("/v1/jobs", json={"prompt": prompt})).status_code == 202
    hook = (await client.post("/v1/webhooks", json={"url": "https://hook.example/a"})).json()
    page = (await client.get("/v1/jobs", params={"limit": 1})).json()
    filtered = (await client.get("/v1/jobs", params={"limit": 1, "state": "queued"})).json()
    cursor = page["next"]
    newest = page["data"][0]["id"]

    # The limit is no filter: it may change from page to page.
    rest = (await client.get("/v1/jobs", params={"limit": 5, "after": cursor})).json()
    assert [job["prompt"] for job in rest["data"]] == ["two", "one"]
    none = (await client.get("/v1/jobs", params={"limit": 1, "after": ""})).json()
    assert none["data"] == page["data"]

    raw = base64.urlsafe_b64decode(cursor)
    flipped = [
        base64.urlsafe_b64encode(bytes([*raw[:i], raw[i] ^ 1, *raw[i + 1 :]])).decode()
        for i in range(len(raw))
    ]
    strange = [newest, "x", "a" * 32, "a" * 4_000, cursor[:-1], cursor + "A", f"{cursor}=", "é"]
    for bad in (*flipped, *strange, filtered["next"]):
        answer = await client.get("/v1/jobs", params={"limit": 1, "after": bad})
        assert answer.status_code == 422, bad
        assert (answer.json()["code"], answer.json()["param"]) == ("invalid_cursor", "after")
        assert "`next`" in answer.json()["detail"]
    elsewhere = [
        (client, "/v1/jobs?state=queued", 422),
        (client, "/v1/jobs?model=flow", 422),
        (client, "/v1/images?limit=1", 400),
        (client, f"/v1/webhooks/{hook['id']}/deliveries?limit=1", 422),
        (stranger, "/v1/jobs?limit=1", 422),
    ]
    for who, path, status in elsewhere:
        join = "&" if "?" in path else "?"
        answer = await who.get(f"{path}{join}after={cursor}")
        assert answer.status_code == status, path
        assert "invalid_cursor" in answer.text


async def test_jobs_by_state_and_model(client: httpx2.AsyncClient) -> None:
    await client.post("/v1/jobs", json={"prompt": "red"})
    await client.post("/v1/jobs", json={"prompt": "green", "model": "flow"})
    blue = (await client.post("/v1/jobs", json={"prompt": "blue", "model": "flow"})).json()
    await client.delete(f"/v1/jobs/{blue['id']}")

    for query, prompts in (
        ("state=queued", ["green", "red"]),
        ("state=cancelled", ["blue"]),
        ("state=failed", []),
        ("model=flow", ["blue", "green"]),
        ("model=flow&state=queued", ["green"]),
        ("model=none", []),
    ):
        answer = (await client.get(f"/v1/jobs?{query}")).json()
        assert [job["prompt"] for job in answer["data"]] == prompts, query
    assert (await client.get("/v1/jobs?state=done")).status_code == 422
