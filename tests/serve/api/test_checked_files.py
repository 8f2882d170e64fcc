"""Files that were cut, altered or removed behind the service's back are never served."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import httpx2
import openai
import pytest

from serve.api.services import Services
from serve.settings import Settings
from tests.serve.api.drawing import Desk
from tests.serve.storage.s3 import S3, serve_s3

PATH = "/v1/images/generations"


def flip(content: bytes) -> bytes:
    """One byte in its middle is another."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def replace_by_link(file: Path, folder: Path) -> None:
    """Of another file of the same size."""
    other = folder / "other"
    other.write_bytes(flip(file.read_bytes()))
    file.unlink()
    file.symlink_to(other)


def replace_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


FAULTS: dict[str, Callable[[Path, Path], object]] = {
    "deleted": lambda file, _: file.unlink(),
    "emptied": lambda file, _: file.write_bytes(b""),
    "cut in half": lambda file, _: os.truncate(file, file.stat().st_size // 2),
    "longer": lambda file, _: file.write_bytes(file.read_bytes() + b"tail"),
    "one byte changed": lambda file, _: file.write_bytes(flip(file.read_bytes())),
    "a link to another file": replace_by_link,
    "a folder": lambda file, _: replace_by_folder(file),
}


async def draw(client: httpx2.AsyncClient, services: Services) -> str:
    """A finished picture's original, by its path on the server."""
    job = (await client.post("/v1/jobs", json={"prompt": "a red heart"})).json()
    desk = Desk(services)
    for claim in await desk.claim():
        await desk.finish(claim)
    return f"/v1/images/{job['images'][0]['id']}/original"


def stored(settings: Settings, sha256: str) -> Path:
    """The file of that hash."""
    pictures = Path(settings.storage.removeprefix("file://"))
    found = [file for file in pictures.rglob("*") if file.is_file()]
    return next(file for file in found if hashlib.sha256(file.read_bytes()).hexdigest() == sha256)


def damaged(answer: httpx2.Response) -> bool:
    """A 500 that says so, is not to be kept, and holds nothing of the file."""
    assert answer.status_code == 500
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers
    if answer.request.method != "HEAD":
        error = answer.json()["error"]
        assert error["code"] == "file_damaged"
        assert "backup" in error["message"]
    return True


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_file_that_is_not_what_was_stored_is_refused(
    client: httpx2.AsyncClient,
    services: Services,
    settings: Settings,
    tmp_path: Path,
    fault: str,
) -> None:
    url = await draw(client, services)
    whole = await client.get(url)
    file = stored(settings, whole.headers["etag"].strip('"'))
    part = {"Range": "bytes=-10"}
    # Once trusted, it must be seen to have changed.
    assert (await client.get(url, headers=part)).content == whole.content[-10:]
    assert (await client.head(url)).status_code == 200

    FAULTS[fault](file, tmp_path)

    assert damaged(await client.head(url))
    assert damaged(await client.get(url, headers=part))
    assert damaged(await client.get(url))
    told = (await client.get("/metrics")).text
    expected = {"deleted": "missing", "a folder": "missing", "one byte changed": "content"}
    kind = expected.get(fault, "content" if "link" in fault else "size")
    assert f'sfumato_damaged_files_total{{fault="{kind}",process="' in told
    assert told.count("sfumato_damaged_files_total{") == 1


async def test_a_changed_file_is_found_by_its_hash_though_its_times_and_size_are_as_before(
    client: httpx2.AsyncClient, services: Services, settings: Settings
) -> None:
    url = await draw(client, services)
    whole = await client.get(url)
    file = stored(settings, whole.headers["etag"].strip('"'))
    before = file.stat()
    with file.open("r+b") as opened:
        opened.write(flip(whole.content))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert damaged(await client.get(url))


async def test_a_part_is_read_alone_once_the_whole_was_checked(
    client: httpx2.AsyncClient,
    services: Services,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = await draw(client, services)
    part = {"Range": "bytes=1-3"}
    first = await client.get(url, headers=part)

    async def unread(key: str) -> bytes:
        raise AssertionError(f"{key} was read whole.")

    with monkeypatch.context() as patched:
        patched.setattr(services.storage, "get", unread)
        again = await client.get(url, headers=part)
        assert (await client.head(url)).status_code == 200
    assert first.status_code == again.status_code == 206
    assert first.content == again.content == (await client.get(url)).content[1:4]

    # Time alone ends the trust: what changed without a trace is found.
    monkeypatch.setattr("serve.pictures.checked_files.monotonic", lambda: 10**9)
    monkeypatch.setattr(services.storage, "get", unread)
    assert (await client.get(url, headers=part)).status_code == 500


async def test_no_answer_carries_a_damaged_picture_in_base64(
    client: httpx2.AsyncClient, services: Services, settings: Settings, key: str, server: str
) -> None:
    url = await draw(client, services)
    image_id = url.split("/")[3]
    asked = {"prompt": "a blue star", "seed": 5}
    named = {"Idempotency-Key": "again"}
    job = (await client.post("/v1/jobs", json=asked, headers=named)).json()
    desk = Desk(services)
    for claim in await desk.claim():
        await desk.finish(claim)
    for each in (url, f"/v1/images/{job['images'][0]['id']}/original"):
        file = stored(settings, (await client.head(each)).headers["etag"].strip('"'))
        file.write_bytes(flip(file.read_bytes()))

    assert damaged(await client.post(PATH, json=asked, headers=named))
    along = {"prompt": "the same", "control": {"name": "edges", "image": image_id}}
    assert damaged(await client.post(PATH, json=along))
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key=key, max_retries=0) as sdk:
        stream = await sdk.images.generate(
            prompt="a blue star", stream=True, extra_body={"seed": 5}, extra_headers=named
        )
        with pytest.raises(openai.APIError, match="altered in storage"):
            async for _ in stream:
                pass


async def test_a_picture_that_was_deleted_is_gone_not_damaged(
    client: httpx2.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await draw(client, services)
    image = await client.get(url.removesuffix("/original"))
    get = services.storage.get

    async def deleted_meanwhile(key: str) -> bytes:
        await client.delete(f"/v1/images/{image.json()['id']}")
        return await get(key)

    monkeypatch.setattr(services.storage, "get", deleted_meanwhile)
    answer = await client.get(url)
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "image_deleted")
    assert "sfumato_damaged_files_total{" not in (await client.get("/metrics")).text


class TestBucket:
    """The same of a bucket, by what it tells."""

    @pytest.fixture
    def s3(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
        with serve_s3() as state:
            for name, value in state.environment.items():
                monkeypatch.setenv(name, value)
            yield state

    @pytest.fixture
    def settings(self, s3: S3, settings: Settings) -> Settings:
        return settings.model_copy(update={"storage_url": "s3://pictures"})

    @pytest.fixture
    async def url(self, client: httpx2.AsyncClient, services: Services) -> str:
        return await draw(client, services)

    async def test_an_altered_object_is_refused(
        self, client: httpx2.AsyncClient, s3: S3, url: str
    ) -> None:
        part = {"Range": "bytes=2-9"}
        whole = await client.get(url)
        assert (await client.get(url, headers=part)).content == whole.content[2:10]
        (name,) = [name for name, (body, _) in s3.objects.items() if body == whole.content]

        s3.objects[name] = (flip(whole.content), "image/png")
        for answer in (await client.head(url), await client.get(url, headers=part)):
            assert damaged(answer)
        assert damaged(await client.get(url))
        s3.objects[name] = (whole.content[:-1], "image/png")
        assert damaged(await client.head(url))
        assert damaged(await client.get(url))
        del s3.objects[name]
        assert damaged(await client.head(url))
        assert damaged(await client.get(url, headers=part))
        s3.objects[name] = (whole.content, "image/png")
        assert (await client.get(url)).content == whole.content

    async def test_a_signed_url_may_redirect_to_the_bucket(
        self,
        client: httpx2.AsyncClient,
        anonymous: httpx2.AsyncClient,
        services: Services,
        monkeypatch: pytest.MonkeyPatch,
        s3: S3,
        url: str,
    ) -> None:
        whole = await client.get(url)
        tenant_id = (await services.keys.list())[0].tenant_id
        image_id = UUID(url.split("/")[3])
        signature = await services.signed_urls.sign(tenant_id, image_id, "original")
        signed = f"{url}?signature={signature}"
        assert (await anonymous.get(signed)).content == whole.content  # off by default

        monkeypatch.setattr(services.files, "_redirects", True)
        answer = await anonymous.get(signed)
        assert (answer.status_code, answer.headers["cache-control"]) == (307, "no-store")
        async with httpx2.AsyncClient() as browser:
            found = await browser.get(answer.headers["location"])
        assert "X-Amz-Signature=" in answer.headers["location"]
        assert (found.content, found.headers["content-type"]) == (whole.content, "image/png")
        for direct in (await client.get(url), await anonymous.get(f"{signed}&download=true")):
            assert (direct.status_code, direct.content) == (200, whole.content)
        etag = {"If-None-Match": whole.headers["etag"]}
        assert (await anonymous.get(signed, headers=etag)).status_code == 304

        s3.objects.clear()
        assert damaged(await anonymous.get(signed))
