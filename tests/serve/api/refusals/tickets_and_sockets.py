"""Doors of the events WebSocket that stay closed, and messages that end it."""

from __future__ import annotations

import json

from tests.serve.api.refusals.case import Knock

NOBODYS = "00000000-0000-7000-8000-000000000000"


def _says(**message: object) -> str:
    return json.dumps(message)


CASES = [
    Knock("a replayed ticket", 4401, "invalid_ticket", "?ticket={used_ticket}"),
    Knock("an expired ticket", 4401, "invalid_ticket", "?ticket={expired_ticket}"),
    Knock("a ticket of a revoked key", 4401, "invalid_api_key", "?ticket={revoked_ticket}"),
    Knock("a ticket cut short", 4401, "invalid_ticket", "?ticket={cut_ticket}"),
    *(
        Knock(f"ticket {ticket[:20]!r}", 4401, "invalid_ticket", f"?ticket={ticket}")
        for ticket in (
            "x",
            "%00",
            "x" * 500,
            "%F0%9F%8E%9F",
            "*",
            "'%20OR%201=1--",
            "%0d%0aGETDEL%20x",
        )
    ),
    Knock("a key for a ticket", 4401, "invalid_ticket", "?ticket={key}"),
    Knock("a bad ticket and a good key", 4401, "invalid_ticket", "?ticket=x", key="{key}"),
    Knock("a revoked key", 4401, "invalid_api_key", key="{revoked}"),
    Knock("a key in the query", 4401, "missing_api_key", "?key={key}", (_says(type="watch_all"),)),
    Knock("no key first", 4401, "missing_api_key", says=(_says(type="watch", job_id=NOBODYS),)),
    Knock(
        "a wrong key first",
        4401,
        "invalid_api_key",
        says=(_says(type="authenticate", key="x" * 40),),
    ),
    Knock(
        "a surrogate as a key",
        1003,
        says=('{"type":"authenticate","key":"' + "\\ud800" * 30 + '"}',),
    ),
    Knock(
        "a key with more",
        4401,
        "invalid_message",
        says=(_says(type="authenticate", key="x", admin=True),),
    ),
    *(
        Knock(f"a page of {origin}", 403, headers={"Origin": origin}, key="{key}")
        for origin in (
            "https://evil.example",
            "null",
            "http://127.0.0.1",
            "http://127.0.0.1:1",
            "http://{host}.evil.example",
            "http://evil.example/{host}",
            "file://",
        )
    ),
    Knock(
        "a page that claims to be this host",
        403,
        headers={
            "Origin": "https://evil.example",
            "X-Forwarded-Host": "evil.example",
            "Forwarded": "host=evil.example",
            "X-Original-Host": "evil.example",
        },
        key="{key}",
    ),
    Knock("headers of 20 KiB", 403, headers={f"X-{i}": "x" * 5_120 for i in range(4)}, key="{key}"),
    Knock("a message of two mebibytes", 1009, says=("x" * 2**21,), key="{key}"),
    Knock("a first message of two mebibytes", 1009, says=("x" * 2**21,)),
    Knock("two mebibytes of bytes", 1003, says=(b"x" * 2**21,), key="{key}"),
    Knock("bytes", 1003, says=(b"{}",), key="{key}"),
    Knock("a lone surrogate", 1003, says=('{"type": "\\ud800"}',), key="{key}"),
    Knock(
        "an integer of 5,000 digits", 1003, says=('{"after": ' + "9" * 5_000 + "}",), key="{key}"
    ),
    Knock("no JSON", 1003, says=("watch all",), key="{key}"),
    Knock("10,000 arrays deep", 1003, says=("[" * 10_000,), key="{key}"),
    Knock("10,000 objects deep", 1003, says=('{"a":' * 3_000,), key="{key}"),
    *(
        Knock(
            f"stays: {message.replace(NOBODYS, '…')}",
            0,
            "invalid_message",
            says=(message,),
            key="{key}",
        )
        for message in (
            "[]",
            "null",
            _says(type="dance"),
            _says(type="watch"),
            _says(type="watch", job_id="7"),
            _says(type="watch", job_id=NOBODYS, after=-1),
            _says(type="watch", job_id=NOBODYS, after=2**31),
            _says(type="watch", job_id=NOBODYS, after=True),
            _says(type="ack", messages=-1),
            '{"type": "ack", "messages": NaN}',
        )
    ),
    Knock(
        "stays: nobody's job",
        0,
        "job_not_found",
        says=(_says(type="watch", job_id=NOBODYS),),
        key="{key}",
    ),
    Knock(
        "stays: a stranger's job",
        0,
        "job_not_found",
        says=('{"type": "watch", "job_id": "{job}"}',),
        key="{stranger}",
    ),
]
