"""What the OpenAPI document says before its operations, and of their tags."""

from __future__ import annotations

ABOUT = """
Text-to-image diffusion, batched per denoising step. Unknown fields are refused, everywhere.

## Authentication

Every operation under `/v1` asks for an API key (`sfm_…`), made by `sfumato keys create`; `make run`
prints the first one. It is sent in one of four ways:

- `Authorization: Bearer sfm_…`, as OpenAI's clients do.
- `X-API-Key: sfm_…`, where a proxy takes `Authorization` for itself.
- As a ticket, by a browser, which cannot send headers with a WebSocket: `POST /v1/events/tickets`
  with the key, then, within 30 seconds and once, `GET /v1/events?ticket=…`.
- In the WebSocket's first message, `{"type": "authenticate", "key": "sfm_…"}`, without Redis too.

A key belongs to one tenant. What belongs to another tenant is a 404. A missing, malformed or
revoked key is a 401.

```sh
curl -s http://127.0.0.1:8000/v1/jobs -H "Authorization: Bearer $KEY" \\
     -H "Content-Type: application/json" -d '{"prompt": "a red heart"}'
```

## Errors

Under `/v1/images` errors take OpenAI's shape, and an invalid field is a 400, so that OpenAI's
clients work unchanged. Elsewhere they are RFC 9457 `application/problem+json`, and an invalid
field is a 422. Each has a stable `code`; where a field is at fault, `param` names it. Every answer
has an `X-Request-ID`, which is in the log.

429 and 503 say in `Retry-After` when to ask again. `POST /v1/jobs` and `/v1/images/generations`
with an `Idempotency-Key` can be repeated safely: the same key and body is the same job.

An unknown path is a 404, and a method that a path does not have is a 405 with `Allow`.

## Events

A job's events come as Server-Sent Events, on a WebSocket of many jobs, and by webhooks:
[`/asyncapi.json`](/asyncapi.json) describes their messages.
""".strip()

TAGS = {
    "images": "Pictures. Requests and errors under `/v1/images` take OpenAI's shape, so that its"
    " clients work unchanged.",
    "albums": "Pictures put together by name; a picture may be in several.",
    "jobs": "Submit now, look later: an accepted job survives the connection and any crash of the"
    " service.",
    "events": "What happens to jobs, as it happens. The WebSocket and the messages are described"
    " by AsyncAPI at `/asyncapi.json`.",
    "webhooks": "Signed HTTP calls when a job ends, as in the"
    " [Standard Webhooks](https://www.standardwebhooks.com) specification, repeated until one"
    " succeeds.",
    "models": "The models that can draw, in OpenAI's shape.",
    "operator": "Which models are served, changed while the service runs. For operators.",
    "tenants": "Owners of keys, jobs and pictures, each with a share of the devices and limits. For"
    " operators.",
    "keys": "API keys, their scopes and expiry. Admins manage their own tenant's keys, operators"
    " any tenant's.",
    "usage": "What a tenant has used, by day and model, and what its quota leaves.",
    "trends": "What is asked for and liked, by words of the prompts.",
    "exhibition": "What the server drew by itself, on its schedule.",
    "operation": "Health, readiness and metrics: for load balancers, Kubernetes and Prometheus.",
}
