"""What a service was trusted with, and which of its logs tell of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import httpx2

# Longer than a model reads, so that diffusers would tell its end; of words that no log has else.
PROMPT = "a panda " * 20 + "zyxophant quibberel"
NEGATIVE = "a dog " * 20 + "vorbelgrim shtulk"
WORDS = (*PROMPT.split()[-2:], *NEGATIVE.split()[-2:])
_PROMPTS = {"prompt": PROMPT, "negative_prompt": NEGATIVE}
_HOOK_PASSWORD = "t0ken-of-the-receiver"
_WRONG_KEY = "sfm_wrong0wrong0wrong0wrong0wrong0"


def entrust(client: httpx2.Client) -> list[str]:
    """Have the service take and give secrets of every kind, in requests that succeed, that are
    refused and whose job ends early; the secrets.
    """
    hook = {"url": f"https://hook.invalid/in?token={_HOOK_PASSWORD}", "events": ["job.cancelled"]}
    webhook = client.post("/v1/webhooks", json=hook).json()
    ticket = client.post("/v1/events/tickets").json()["ticket"]
    drawn = client.post(
        "/v1/images/generations",
        json={**_PROMPTS, "num_inference_steps": 2, "response_format": "url"},
    ).json()
    signature = drawn["data"][0]["url"].partition("signature=")[2]
    assert client.get(drawn["data"][0]["url"]).is_success
    for refused in ({"n": 0}, {"seed": PROMPT}, {"model": WORDS[0]}, {PROMPT: 1}):
        assert client.post("/v1/jobs", json={**_PROMPTS, **refused}).is_client_error
    assert client.get("/v1/events", params={"ticket": ticket, "key": _WRONG_KEY}).is_client_error
    wrong = {"Authorization": f"Bearer {_WRONG_KEY}"}
    assert client.post("/v1/jobs", json=_PROMPTS, headers=wrong).status_code == 401
    job = client.post("/v1/jobs", json={**_PROMPTS, "num_inference_steps": 100}).json()
    assert client.delete(f"/v1/jobs/{job['id']}").is_success
    key = client.post("/v1/keys", json={"name": "spare", "scopes": ["read"]}).json()["key"]
    return [*WORDS, webhook["secret"], _HOOK_PASSWORD, _WRONG_KEY, ticket, signature, key]


def tellers(secrets: Iterable[str], logs: Sequence[Path]) -> dict[str, list[str]]:
    """The names of the logs that hold a secret, by the secret; of those in which it is."""
    told = {
        secret: [log.name for log in logs if secret in log.read_text(errors="replace")]
        for secret in secrets
    }
    return {secret: names for secret, names in told.items() if names}


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
