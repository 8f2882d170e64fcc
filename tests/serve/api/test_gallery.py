"""The page and its files, under a policy that lets in nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pytest

WEB = Path(__file__).parents[3] / "serve" / "web" / "page"
PAGES = {
    "gallery.js": "index.html",
    "operator.js": "operator.html",
    "exhibition.js": "exhibition.html",
}
"""By the script that begins each."""


async def test_page_is_served_with_its_policy(anonymous: httpx2.AsyncClient) -> None:
    answer = await anonymous.get("/")

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_every_file_that_is_asked_for_is_there(anonymous: httpx2.AsyncClient) -> None:
    """By paths that lead on from where they stand, as behind a proxy that serves below a path."""
    asked = {"/"}
    seen: set[str] = set()
    while asked - seen:
        path = (asked - seen).pop()
        seen.add(path)
        answer = await anonymous.get(path)
        assert answer.status_code == 200, path
        named = re.findall(r'(?:src|href|from)[= ]"([^"#]+)"', answer.text)
        assert [reference for reference in named if reference.startswith("/")] == [], path
        asked |= {urljoin(path, reference) for reference in named} - {"/docs", "/metrics", "/ready"}
    pages = {f"/web/{page.name}" for page in WEB.glob("*.html")}
    assert {f"/web/{file.name}" for file in WEB.iterdir()} - seen == pages


async def test_unchanged_file_is_not_sent_again(anonymous: httpx2.AsyncClient) -> None:
    tag = (await anonymous.get("/web/gallery.js")).headers["etag"]

    answer = await anonymous.get("/web/gallery.js", headers={"If-None-Match": tag})

    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    ["/web/", "/web/../settings.py", "/web/%2e%2e%2fsettings.py", "/web/none.js", "/web/.js"],
)
async def test_nothing_else_is_served(anonymous: httpx2.AsyncClient, path: str) -> None:
    assert (await anonymous.get(path)).status_code == 404


def imported(script: Path) -> set[Path]:
    """The script and all that it imports."""
    found, open_ = set[Path](), {script}
    while open_ - found:
        file = (open_ - found).pop()
        found.add(file)
        open_ |= {WEB / name for name in re.findall(r'from "\./([^"]+)"', file.read_text())}
    return found


def test_page_needs_nobody_else() -> None:
    for file in WEB.iterdir():
        text = file.read_text()
        addresses = set(re.findall(r"https?://[^\s\"'<>]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file.name
        assert "innerHTML" not in text, file.name
    for page in WEB.glob("*.html"):
        assert not re.search(r"\son\w+=|\sstyle=|<script>|<style", page.read_text()), page.name


def test_scripts_ask_for_nothing_by_an_absolute_path() -> None:
    for file in WEB.glob("*.js"):
        assert not re.search(r"""["'`]/(?!["'`])""", file.read_text()), file.name


def test_scripts_read_json_with_whole_numbers_alone() -> None:
    """`JSON.parse` and `Response.json` round seeds; what is read for its sentence has none."""
    for file in WEB.glob("*.js"):
        rounding = re.findall(r"JSON\.parse\(|\.json\(\)", file.read_text())
        assert rounding == (["JSON.parse("] if file.name == "json.js" else []), file.name


def test_every_id_that_scripts_ask_for_is_in_the_page() -> None:
    for script, page in PAGES.items():
        ids = set(re.findall(r'id="([^"]+)"', (WEB / page).read_text()))
        for file in imported(WEB / script):
            asked = set(re.findall(r'byId\("([^"]+)"\)', file.read_text()))
            assert asked <= ids, file.name
