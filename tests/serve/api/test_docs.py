"""The reference page: Scalar, from this server alone."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pytest

PLACE = Path(__file__).parents[3] / "serve" / "reference"


async def test_page_and_every_file_it_asks_for_is_here(anonymous: httpx2.AsyncClient) -> None:
    page = await anonymous.get("/docs")

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "connect-src 'self'" in policy
    asked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {"docs/scalar.js", "openapi.json", "asyncapi.json"} <= set(asked)
    for path in asked:
        assert (await anonymous.get(urljoin("/docs", path))).status_code == 200, path
    assert not re.search(r"\son\w+=|\sstyle=|<script>|<style", page.text)


async def test_script_is_the_one_that_the_notice_names(anonymous: httpx2.AsyncClient) -> None:
    answer = await anonymous.get("/docs/scalar.js", headers={"Accept-Encoding": "gzip"})

    assert answer.headers["content-encoding"] == "gzip"
    assert hashlib.sha256(answer.content).hexdigest() in (PLACE / "NOTICE.md").read_text()


async def test_script_comes_unpacked_for_whoever_cannot_unpack(
    anonymous: httpx2.AsyncClient,
) -> None:
    answer = await anonymous.get("/docs/scalar.js", headers={"Accept-Encoding": "identity"})

    assert "content-encoding" not in answer.headers
    assert answer.content == gzip.decompress((PLACE / "scalar.js.gz").read_bytes())


async def test_unchanged_script_is_not_sent_again(anonymous: httpx2.AsyncClient) -> None:
    tag = (await anonymous.get("/docs/scalar.js")).headers["etag"]

    answer = await anonymous.get("/docs/scalar.js", headers={"If-None-Match": tag})

    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize(
    "name", ["NOTICE.md", "LICENSE.scalar", "scalar.js.gz", "..%2fsettings.py", "none.js"]
)
async def test_nothing_else_is_served(anonymous: httpx2.AsyncClient, name: str) -> None:
    assert (await anonymous.get(f"/docs/{name}")).status_code == 404


def test_our_own_files_ask_nobody_else() -> None:
    for name in ("index.html", "reference.js", "reference.css"):
        assert not re.search(r"https?://", (PLACE / name).read_text()), name
    settings = (PLACE / "reference.js").read_text()
    for quiet in ("withDefaultFonts: false", "telemetry: false", 'proxyUrl: ""'):
        assert quiet in settings


async def test_with_a_slash_at_the_end_it_is_the_same_page(anonymous: httpx2.AsyncClient) -> None:
    """Its links are relative, so it is sent for where it lies."""
    answer = await anonymous.get("/docs/")
    assert answer.status_code == 308
    assert urljoin("/art/docs/", answer.headers["location"]) == "/art/docs"
