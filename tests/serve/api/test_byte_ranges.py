"""Parts of files: what is asked for, and what comes."""

from __future__ import annotations

import time

import httpx2
import pytest

from serve.api.services import Services
from serve.pictures.downloads import requested_range
from serve.pictures.errors import RangeNotSatisfiable
from tests.serve.api.drawing import Desk

SIZE = 1000
HUGE = "9" * 5000


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", range(1)),
        ("bytes=0-999", range(1000)),
        ("bytes=0-99999999999999999", range(1000)),
        ("bytes=999-", range(999, 1000)),
        ("bytes=-1", range(999, 1000)),
        ("bytes=-5000", range(1000)),
        ("Bytes = 10-19 ", range(10, 20)),
        (None, None),
        ("", None),
        ("bytes=-", None),
        ("bytes=5-2", None),
        ("bytes=a-b", None),
        ("bytes=٣-٤", None),
        ("bytes=1.5-2", None),
        ("lines=0-1", None),
        ("bytes=0-1,3-4", None),
        (f"bytes=0-{HUGE}", None),
        ("bytes=" + ",".join("0-" for _ in range(10_000)), None),
    ],
    ids=lambda value: str(value)[:24],
)
def test_range_asked_for(header: str | None, span: range | None) -> None:
    assert requested_range(header, SIZE) == span


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-2000", "bytes=-0"])
def test_bytes_that_the_file_has_not(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable, match="0-999"):
        requested_range(header, SIZE)


def test_many_ranges_cost_nothing() -> None:
    header = "bytes=" + ",".join(f"{n}-" for n in range(10_000))
    started = time.thread_time()
    for _ in range(1000):
        requested_range(header, SIZE)
    assert time.thread_time() - started < 0.5  # 0.5 ms each would be a hundred times too slow


async def test_parts_of_a_file(client: httpx2.AsyncClient, services: Services) -> None:
    """One picture for all, because each test has a database of its own."""
    desk = Desk(services)
    asked = {"prompt": "A red heart, très “rouge”; X=y", "seed": 7}
    job = (await client.post("/v1/jobs", json=asked)).json()
    [claim] = await desk.claim()
    await desk.finish(claim)
    url = f"/v1/images/{job['images'][0]['id']}/original"
    whole = await client.get(url)
    size, etag = len(whole.content), whole.headers["etag"]
    assert whole.headers["accept-ranges"] == "bytes"
    disposition = 'inline; filename="a-red-heart-tr-s-rouge-x-y-7.png"'
    assert whole.headers["content-disposition"] == disposition

    part = await client.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{size}"
    assert part.headers["content-length"] == "10"
    assert (part.headers["etag"], part.headers["content-type"]) == (etag, "image/png")
    tail = await client.get(url, headers={"Range": "bytes=-7"})
    assert (tail.status_code, tail.content) == (206, whole.content[-7:])

    beyond = await client.get(url, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    assert beyond.json()["error"]["code"] == "range_not_satisfiable"

    many = "bytes=" + ",".join("0-" for _ in range(5_000))  # of 10,000 the headers are too long
    for headers, status in (
        ({"Range": "bytes=0-9", "If-Range": etag}, 206),
        ({"Range": "bytes=0-9", "If-Range": f"W/{etag}"}, 200),
        ({"Range": "bytes=0-9", "If-Range": '"other"'}, 200),
        ({"Range": "bytes=0-9", "If-Range": "Tue, 24 Nov 2026 10:00:00 GMT"}, 200),
        ({"Range": f"bytes={size}-", "If-Range": '"other"'}, 200),
        ({"Range": "bytes=0-9", "If-None-Match": etag}, 304),
        ({"Range": "bytes=0-1,4-5"}, 200),
        ({"Range": many}, 200),
    ):
        answer = await client.get(url, headers=headers)
        assert answer.status_code == status, headers
        expected = {200: whole.content, 206: whole.content[:10], 304: b""}[status]
        assert answer.content == expected

    head = await client.head(url, headers={"Range": "bytes=0-9"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(size)
    assert head.headers["etag"] == etag
    assert (await client.head(url + "s")).status_code == 404

    saved = await client.get(url, params={"download": "true"})
    assert saved.headers["content-disposition"].startswith("attachment; filename=")
