"""Signed URLs that open nothing."""

from __future__ import annotations

from tests.serve.api.refusals.case import Case

FILE = "/v1/images/{image}/original?signature="
MADE_UP = {
    "one letter": "x",
    "not base64": "%21%21%21",
    "beyond ASCII": "%C3%A9",
    "a NUL": "%00",
    "zeros": "A" * 75,
    "1,000 letters": "A" * 1_000,
    "expired": "{expired_signature}",
    "cut short": "{cut_signature}",
    "of another tenant": "{stranger_signature}",
    "of another file": "{thumbnail_signature}",
    "with more behind": "{signature}AAAA",
    "a key": "{key}",
}

CASES = [
    *(
        Case(f"signature: {name}", "GET", FILE + signature, 403, "invalid_signature", key=None)
        for name, signature in MADE_UP.items()
    ),
    Case("signature: none", "GET", FILE, 401, "missing_api_key", key=None),
    Case("signature: a bad one and a good key", "GET", FILE + "x", 403, "invalid_signature"),
    Case(
        "signature: for the picture's data",
        "GET",
        "/v1/images/{image}?signature={signature}",
        401,
        "missing_api_key",
        key=None,
    ),
    Case(
        "signature: for the list",
        "GET",
        "/v1/images?signature={signature}",
        401,
        "missing_api_key",
        key=None,
    ),
]
