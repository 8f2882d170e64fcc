"""Bodies that are no JSON, no object, or no end."""

from __future__ import annotations

import gzip

from tests.serve.api.refusals.case import Case, Endless, both

MIB = 2**20
PROMPT = b'{"prompt": "a", '

CASES = [
    *both("no body", b"", 422, "missing_field"),
    *both("an array", [], 422, "invalid_value"),
    *both("a number", 3, 422, "invalid_value"),
    *both("null", b"null", 422, "invalid_value"),
    *both("a string", "red heart", 422, "invalid_value"),
    *both("an open brace", b"{", 400, "invalid_json"),
    *both("single quotes", b"{'prompt': 1}", 400, "invalid_json"),
    *both("more after the end", b'{"prompt": "a"} x', 400, "invalid_json"),
    *both("a comma too many", b'{"prompt": "a",}', 400, "invalid_json"),
    *both("a raw newline in a string", b'{"prompt": "a\nb"}', 400, "invalid_json"),
    *both("no UTF-8", b'{"prompt": "\xff\xfe"}', 400, "invalid_json"),
    *both("a NUL after the end", b'{"prompt": "a"}\x00', 400, "invalid_json"),
    *both("a second object", b'{"prompt": "a"}\n{}', 400, "invalid_json"),
    *both("UTF-16", '{"prompt": "a"}'.encode("utf-16"), 400, "invalid_json"),
    *both("UTF-32", '{"prompt": "a"}'.encode("utf-32"), 400, "invalid_json"),
    *both("10,000 arrays deep in UTF-16", ("[" * 10_000).encode("utf-16-le"), 400, "invalid_json"),
    *both("10,000 arrays deep", b"[" * 10_000 + b"]" * 10_000, 400, "json_too_deep"),
    *both(
        "10,000 objects deep", b'{"prompt":' * 10_000 + b"1" + b"}" * 10_000, 400, "json_too_deep"
    ),
    *both("deep behind a string", PROMPT + b'"n": ' + b"[" * 10_000, 400, "json_too_deep"),
    *both("deep behind an escaped quote", b'["\\"' + b'", [' * 5_000, 400, "json_too_deep"),
    *both("a mebibyte of brackets", b"[" * MIB, 400, "json_too_deep"),
    *both("a mebibyte of objects", b"[" + b"{}," * (MIB // 3 - 1) + b"1]", 422, "invalid_value"),
    *both("50,000 fields", {f"f{i}": 1 for i in range(50_000)}, 422, "unknown_field"),
    *both("an integer of 5,000 digits", b"9" * 5_000, 400, "bad_request"),
    *both("a seed of 5,000 digits", PROMPT + b'"seed": ' + b"9" * 5_000 + b"}", 400, "bad_request"),
    *both(
        "a seed of 4,000 digits", PROMPT + b'"seed": ' + b"9" * 4_000 + b"}", 422, "invalid_value"
    ),
    *both("NaN", PROMPT + b'"guidance_scale": NaN}', 422, "invalid_value", param="guidance_scale"),
    *both(
        "Infinity", PROMPT + b'"deadline_s": Infinity}', 422, "invalid_value", param="deadline_s"
    ),
    *both(
        "-Infinity", PROMPT + b'"deadline_s": -Infinity}', 422, "invalid_value", param="deadline_s"
    ),
    *both(
        "1e999", PROMPT + b'"guidance_scale": 1e999}', 422, "invalid_value", param="guidance_scale"
    ),
    *both("a lone surrogate as a field", PROMPT + b'"\\ud800": 1}', 422, "unknown_field"),
    *both("a NUL as a field", PROMPT + b'"\\u0000": 1}', 422, "unknown_field"),
    *both("a mebibyte and a byte", b" " * (MIB + 1), 413, "body_too_large"),
    *both("a gibibyte in chunks", Endless(), 413, "body_too_large"),
    Case(
        "a gibibyte declared",
        "POST",
        "/v1/jobs",
        413,
        "body_too_large",
        b"{",
        {"Content-Length": str(2**30)},
    ),
    Case(
        "a gibibyte declared, OpenAI's shape",
        "POST",
        "/v1/images/generations",
        413,
        "body_too_large",
        b"{",
        {"Content-Length": str(2**30)},
    ),
    Case(
        "more declared than a number holds",
        "POST",
        "/v1/jobs",
        400,
        None,
        b"{",
        {"Content-Length": "9" * 40},
    ),
    Case("a negative length", "POST", "/v1/jobs", 400, None, b"{", {"Content-Length": "-1"}),
    Case(
        "two lengths",
        "POST",
        "/v1/jobs",
        400,
        None,
        b"{}",
        (("Content-Length", "2"), ("Content-Length", "20")),
    ),
    Case(
        "a length and chunks",
        "POST",
        "/v1/jobs",
        400,
        None,
        b"0\r\n\r\n",
        {"Content-Length": "5", "Transfer-Encoding": "chunked"},
    ),
    Case(
        "a chunk of no size",
        "POST",
        "/v1/jobs",
        400,
        None,
        b"zz\r\n{}\r\n",
        {"Transfer-Encoding": "chunked"},
    ),
    Case(
        "a compressed body",
        "POST",
        "/v1/jobs",
        400,
        "invalid_json",
        gzip.compress(b'{"prompt": "a"}'),
        {"Content-Encoding": "gzip"},
    ),
    Case(
        "a decompression bomb",
        "POST",
        "/v1/jobs",
        400,
        "invalid_json",
        gzip.compress(b" " * 100 * MIB),
        {"Content-Encoding": "gzip"},
    ),
    *(
        Case(
            f"{path} content type {content_type or 'left out'}",
            "POST",
            path,
            status,
            "invalid_value",
            b'{"prompt": "a"}',
            {"Content-Type": content_type},
        )
        for path, status in (("/v1/jobs", 422), ("/v1/images/generations", 400))
        for content_type in (
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/xml",
            "application/jsonp",
            "multipart/form-data; boundary=x",
        )
    ),
]
