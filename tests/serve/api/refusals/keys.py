"""Keys that open nothing."""

from __future__ import annotations

from tests.serve.api.refusals.case import Case, Endless

PROMPT = {"prompt": "a red heart"}
INVALID = {
    "revoked": "{revoked}",
    "a character short": "{truncated}",
    "a character long": "{key}x",
    "its other case": "{swapped}",
    "its visible prefix": "{prefix}",
    "its prefix and stars": "{prefix}" + "*" * 31,
    "made up": "sfm_" + "A" * 43,
    "short": "sfm_x",
    "of 513 characters": "x" * 513,
    "of 10,000 characters": "x" * 10_000,
    "with SQL": "' OR '1'='1' -- and so on and so on",
    "beyond ASCII": "sfm_" + "é" * 43,
    "percent-encoded": "%73fm_{key}",
    "a used ticket": "{used_ticket}",
    "an unused ticket": "{ticket}",
    "null": "null",
    "two keys": "{key} {key}",
    "two keys with a comma": "{key},{key}",
}
ASKED: list[tuple[str, str, object]] = [
    ("POST", "/v1/jobs", PROMPT),
    ("POST", "/v1/images/generations", PROMPT),
]
BODIES: dict[str, object] = {
    "an open brace": b"{",
    "UTF-16": '{"prompt": "a"}'.encode("utf-16"),
    "10,000 arrays deep": b"[" * 10_000,
    "an unknown field": {"colour": "red"},
    "a gibibyte in chunks": Endless(),
}
"""What a stranger must not be told about."""

CASES = [
    *(
        Case(f"{path} key {name}", method, path, 401, "invalid_api_key", body, key=key)
        for method, path, body in ASKED
        for name, key in INVALID.items()
    ),
    *(
        Case(
            f"X-API-Key {name}",
            "GET",
            "/v1/jobs",
            401,
            "invalid_api_key",
            headers={"X-API-Key": key},
            key=None,
        )
        for name, key in INVALID.items()
    ),
    *(
        Case(
            f"{scheme!r} for Bearer",
            "POST",
            "/v1/jobs",
            401,
            "missing_api_key",
            PROMPT,
            {"Authorization": scheme},
            key=None,
        )
        for scheme in (
            "Basic {key}",
            "Token {key}",
            "{key}",
            "Bearer",
            "Bearer  ",
            "Bearer{key}",
            "",
        )
    ),
    *(
        Case(
            f"a key as {name}",
            "GET",
            f"/v1/models?{name}={{key}}",
            401,
            "missing_api_key",
            key=None,
        )
        for name in ("api_key", "key", "access_token", "authorization")
    ),
    Case(
        "a key as a cookie",
        "GET",
        "/v1/jobs",
        401,
        "missing_api_key",
        headers={"Cookie": "X-API-Key={key}"},
        key=None,
    ),
    Case(
        "a wrong key before a right one",
        "GET",
        "/v1/jobs",
        401,
        "invalid_api_key",
        headers={"X-API-Key": "{key}"},
        key="{revoked}",
    ),
    *(
        Case(f"no key for {method} {path}", method, path, 401, "missing_api_key", body, key=None)
        for method, path, body in (
            *ASKED,
            ("GET", "/v1/jobs", None),
            ("GET", "/v1/jobs/{job}", None),
            ("DELETE", "/v1/jobs/{job}", None),
            ("GET", "/v1/jobs/{job}/events", None),
            ("GET", "/v1/images", None),
            ("GET", "/v1/images/{image}", None),
            ("GET", "/v1/images/{image}/original", None),
            ("GET", "/v1/models", None),
            ("GET", "/v1/webhooks", None),
            ("POST", "/v1/webhooks", {"url": "https://example.com/"}),
            ("POST", "/v1/events/tickets", None),
        )
    ),
    *(
        Case(f"{path} {name} {of} key", "POST", path, 401, code, body, key=key)
        for path in ("/v1/jobs", "/v1/images/generations", "/v1/images/edits")
        for name, body in BODIES.items()
        for of, code, key in (
            ("without a", "missing_api_key", None),
            ("of a revoked", "invalid_api_key", "{revoked}"),
        )
    ),
]
