"""Headers that flood, lie, or ask for another address."""

from __future__ import annotations

from tests.serve.api.refusals.case import Case

SPOOFED = {
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "sfumato.example",
    "X-Forwarded-Proto": "https",
    "X-Real-IP": "127.0.0.1",
    "Forwarded": "for=127.0.0.1;host=sfumato.example;proto=https",
    "X-Client-IP": "127.0.0.1",
    "X-Forwarded-User": "admin",
    "X-Remote-User": "admin",
}
PROMPT = {"prompt": "a red heart"}


def _flood(count: int) -> tuple[tuple[str, str], ...]:
    return tuple((f"X-{i}", "1") for i in range(count))


CASES = [
    Case("100 headers more", "GET", "/v1/jobs", 431, "headers_too_large", headers=_flood(100)),
    Case("10,000 headers", "GET", "/v1/jobs", 431, "headers_too_large", headers=_flood(10_000)),
    Case(
        "the same one 5,000 times",
        "GET",
        "/health",
        431,
        "headers_too_large",
        headers=(("A", "b"),) * 5_000,
    ),
    Case(
        "a header of 17 KiB",
        "GET",
        "/v1/images",
        431,
        "headers_too_large",
        headers={"X": "x" * 17_408},
    ),
    Case(
        "a header of a mebibyte",
        "POST",
        "/v1/jobs",
        431,
        "headers_too_large",
        PROMPT,
        {"X": "x" * 2**20},
    ),
    Case(
        "cookies of 20 KiB",
        "GET",
        "/",
        431,
        "headers_too_large",
        headers={"Cookie": "a=b; " * 4_000},
    ),
    Case(
        "10,000 byte ranges",
        "GET",
        "/v1/images/{image}/original",
        431,
        "headers_too_large",
        headers={"Range": "bytes=" + ",".join(f"{i}-{i}" for i in range(10_000))},
    ),
    Case("a header without a name", "GET", "/v1/jobs", 400, None, headers={"": "x"}),
    Case("a name with a blank", "GET", "/v1/jobs", 400, None, headers={"X Y": "x"}),
    Case("a header with a NUL", "GET", "/v1/jobs", 400, None, headers={"X-A": "a\x00b"}),
    Case("a header with ANSI", "GET", "/v1/jobs", 400, None, headers={"X-Request-ID": "\x1b[2J"}),
    *(
        Case(
            f"{name} without a key",
            "GET",
            "/v1/jobs",
            401,
            "missing_api_key",
            headers={name: value},
            key=None,
        )
        for name, value in SPOOFED.items()
    ),
    Case("all of them", "POST", "/v1/jobs", 401, "missing_api_key", PROMPT, SPOOFED, key=None),
    Case(
        "another address",
        "GET",
        "/nowhere",
        404,
        "not_found",
        headers={"X-Original-URL": "/health", "X-Rewrite-URL": "/health"},
    ),
    Case(
        "another method",
        "GET",
        "/v1/webhooks/00000000-0000-7000-8000-000000000000",
        404,
        "webhook_not_found",
        headers={"X-HTTP-Method-Override": "POST", "X-HTTP-Method": "POST"},
    ),
    Case("a foreign host", "GET", "/nowhere", 404, "not_found", headers={"Host": "evil.example"}),
    Case(
        "a preflight that nobody allowed",
        "OPTIONS",
        "/v1/jobs",
        405,
        "method_not_allowed",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
        key=None,
    ),
    *(
        Case(
            f"{path} idempotency key {ascii(name)[:20]}",
            "POST",
            path,
            status,
            "invalid_value",
            PROMPT,
            {"Idempotency-Key": name},
            param="Idempotency-Key",
        )
        for path, status in (("/v1/jobs", 422), ("/v1/images/generations", 400))
        for name in ("two words", "x" * 256, "é", "a\tb")
    ),
    Case(
        "an idempotency key of another body",
        "POST",
        "/v1/jobs",
        422,
        "idempotency_conflict",
        {"prompt": "another"},
        {"Idempotency-Key": "taken"},
    ),
    Case(
        "an idempotency key of another body, OpenAI's shape",
        "POST",
        "/v1/images/generations",
        400,
        "idempotency_conflict",
        {"prompt": "another"},
        {"Idempotency-Key": "taken"},
    ),
    *(
        Case(
            f"last event {ascii(number)[:20]}",
            "GET",
            "/v1/jobs/{job}/events",
            422,
            "invalid_value",
            headers={"Last-Event-ID": number},
        )
        for number in ("-1", "x", "1.5", "2147483648", "9" * 5_000, "1; DROP TABLE events")
    ),
]
