"""What is uploaded: what is refused leaves nothing behind, and what is harmless is taken."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import UUID

import httpx2
import numpy as np
import pytest
from PIL import ExifTags, Image

from serve.api.services import Services
from serve.jobs.admission import QueueView
from serve.settings import DEFAULT_POOL, Settings
from serve.worker.queue import Claim
from tests.pipelines.imaging import profiles
from tests.serve.api.conftest import count_rows
from tests.serve.api.drawing import Desk
from tests.serve.api.limited import EACH, PROMPT, Limit, limit
from tests.serve.api.refusals import uploads
from tests.serve.api.refusals.uploads import (
    REFUSALS,
    Refusal,
    file_of,
    mask_of,
    picture,
    with_chunk,
    zeros,
)
from tests.serve.api.test_generations import first_job

__all__ = ["limit"]

PATH = "/v1/images/edits"
MEMORY = 16 * 2**20


def peak_memory() -> int:
    """The most that this process has held since `forget_peak`, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def stored(settings: Settings) -> list[Path]:
    return [path for path in settings.data_dir.rglob("sources/**/*") if path.is_file()]


async def edited(client: httpx2.AsyncClient, services: Services, sent: uploads.Sent) -> Claim:
    """What a worker is given of an edit that is taken."""
    asking = asyncio.create_task(client.post(PATH, **sent))
    waiting = asyncio.create_task(first_job(client))
    await asyncio.wait({asking, waiting}, return_when=asyncio.FIRST_COMPLETED)
    assert not asking.done(), asking.result().text
    desk = Desk(services)
    (claim,) = await desk.claim()
    await desk.finish(claim)
    answer = await asking
    assert answer.status_code == 200, answer.text
    return claim


async def test_refused_and_nothing_left(
    client: httpx2.AsyncClient,
    services: Services,
    settings: Settings,
    subtests: pytest.Subtests,
) -> None:
    """One app for all: what each leaves behind would be seen after it."""
    for kind in ("png", "jpeg", "webp"):  # the first of each loads code
        await client.post(PATH, **uploads.masked(partial(uploads.good, kind))())
    for refusal in REFUSALS:
        with subtests.test(refusal.name):
            await refused(client, services, settings, refusal)


async def refused(
    client: httpx2.AsyncClient, services: Services, settings: Settings, refusal: Refusal
) -> None:
    sent = refusal.send()
    forget_peak()
    before = peak_memory()
    answer = await client.post(PATH, **sent)
    grown = peak_memory() - before

    assert answer.status_code == refusal.status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (refusal.code, refusal.param), error["message"]
    assert stored(settings) == []
    assert await count_rows(services.database, "sources") == 0
    assert await count_rows(services.database, "jobs") == 0
    assert grown < MEMORY


HARMLESS: dict[str, Callable[[], bytes]] = {
    "a colour profile of 64 MB": lambda: with_chunk(b"iCCP", b"a\0\0" + zeros(2**26)),
    "a text of 64 MB": lambda: with_chunk(b"zTXt", b"a\0\0" + zeros(2**26)),
    "an international text of 64 MB": lambda: with_chunk(b"iTXt", b"a\0\x01\0\0\0" + zeros(2**26)),
    "more data than pixels": lambda: uploads.png(64, 48, bytes(2**26)),
    "a JPEG with a film behind it": lambda: uploads.good("jpeg") + bytes(2**16),
    "a PNG with a line end behind it": lambda: uploads.good() + b"\r\n",
    "a WebP with a NUL behind it": lambda: uploads.good("webp") + b"\0",
}


@pytest.mark.parametrize("name", HARMLESS)
async def test_what_unpacks_to_much_is_never_unpacked(
    client: httpx2.AsyncClient, services: Services, name: str
) -> None:
    sent = uploads.upload(HARMLESS[name])()
    await client.post(PATH, **uploads.masked(uploads.good)())
    forget_peak()
    before = peak_memory()
    claim = await edited(client, services, sent)

    assert peak_memory() - before < MEMORY
    assert (claim.request.width, claim.request.height) == (64, 48)


async def test_photographs_of_48_megapixels_are_scaled_as_they_are_decoded(
    client: httpx2.AsyncClient, services: Services
) -> None:
    """Whole, it would take 195 MB."""
    photo = file_of(Image.new("RGB", (8064, 6048), (120, 90, 40)), "jpeg")
    await client.post(PATH, **uploads.masked(uploads.good)())
    forget_peak()
    before = peak_memory()
    claim = await edited(client, services, uploads.upload(lambda: photo)())

    assert peak_memory() - before < 2 * MEMORY
    assert (claim.request.width, claim.request.height) == (72, 56)


async def test_a_mask_may_be_as_large_as_a_photograph(
    client: httpx2.AsyncClient, services: Services
) -> None:
    photo = file_of(Image.new("RGB", (8064, 6048), (120, 90, 40)), "jpeg")
    sent = uploads.upload(lambda: photo)()
    mask = file_of(Image.new("LA", (8064, 6048), (0, 0)), compress_level=1)
    sent["files"]["mask"] = ("mask.png", mask, "image/png")
    claim = await edited(client, services, sent)

    kept = Image.open(io.BytesIO(await services.storage.get(str(claim.sources["mask"]))))
    assert kept.size == (72, 56)
    assert kept.getextrema() == (255, 255)


async def test_an_upload_is_drawn_from_in_srgb(
    client: httpx2.AsyncClient, services: Services
) -> None:
    """The picture, and the one that a ControlNet follows."""
    profile = profiles.rgb(profiles.ADOBE_RGB)
    file = file_of(Image.new("RGB", (64, 48), (60, 200, 60)), icc_profile=profile)
    sent = uploads.upload(lambda: file)()
    sent["data"]["control"] = '{"name": "edges"}'
    sent["files"]["control_image"] = ("edges.png", file, "image/png")
    claim = await edited(client, services, sent)

    for name in ("image", "control_image"):
        kept = Image.open(io.BytesIO(await services.storage.get(str(claim.sources[name]))))
        told = np.array(kept.getpixel((20, 20)))
        assert np.abs(told - profiles.shown((60, 200, 60), "adobe")).max() <= 2


async def test_where_it_was_taken_is_not_kept(
    client: httpx2.AsyncClient, services: Services
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Cam"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (48.0, 8.0, 14.0)
    file = file_of(picture(), "jpeg", exif=exif, icc_profile=b"secret profile", comment=b"mine")
    claim = await edited(client, services, uploads.upload(lambda: file)())

    key = claim.sources["image"]
    kept = await services.storage.get(str(key))
    assert b"Cam" not in kept
    with Image.open(io.BytesIO(kept)) as source:
        assert (source.format, source.mode, source.size) == ("PNG", "RGB", (48, 64))
        assert source.info == {}
        assert not source.getexif()


async def test_a_mask_goes_with_its_picture(client: httpx2.AsyncClient, services: Services) -> None:
    sent = uploads.masked(lambda: file_of(mask_of()))()
    claim = await edited(client, services, sent)

    image, mask = [
        Image.open(io.BytesIO(await services.storage.get(str(claim.sources[name]))))
        for name in ("image", "mask")
    ]
    assert (image.mode, mask.mode, image.size, mask.size) == ("RGB", "L", (64, 48), (64, 48))
    assert [mask.getpixel((x, 20)) for x in (0, 31, 32, 63)] == [255, 255, 0, 0]
    assert claim.request.strength == 1.0


async def test_the_same_upload_is_the_same_job(
    client: httpx2.AsyncClient, services: Services
) -> None:
    headers = {"Idempotency-Key": "a"}
    sent = uploads.upload(uploads.good)
    first = asyncio.create_task(client.post(PATH, **sent(), headers=headers))
    job = await first_job(client)
    again = asyncio.create_task(client.post(PATH, **sent(), headers=headers))
    other = await client.post(
        PATH, **uploads.upload(lambda: uploads.good("jpeg"))(), headers=headers
    )
    assert other.json()["error"]["code"] == "idempotency_conflict"
    desk = Desk(services)
    for claim in await desk.claim():
        await desk.finish(claim)
    answers = await asyncio.gather(first, again)

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert await count_rows(services.database, "jobs") == 1
    assert UUID(str(job["id"]))


@pytest.mark.parametrize("path", [PATH, "/v1/images/variations"])
@pytest.mark.parametrize("refusal", ["overloaded", "rate_limit_exceeded"])
async def test_what_cannot_be_drawn_by_now_is_not_decoded(
    client: httpx2.AsyncClient,
    services: Services,
    settings: Settings,
    limit: Limit,
    path: str,
    refusal: str,
) -> None:
    """Its header is sound, and its pixels are not: whoever decodes it sees that."""
    sent: uploads.Sent = {"files": {"image": uploads.png(64, 48, b"no pixels")}}
    if path == PATH:
        sent["data"] = {"prompt": "a red heart"}
    decoded = await client.post(path, **sent)
    assert decoded.json()["error"]["code"] == "invalid_image", decoded.text

    if refusal == "overloaded":
        services.jobs.admission.queues[DEFAULT_POOL] = QueueView(
            services.database, list(services.settings.served), 0.1 * EACH
        )
        await client.post("/v1/jobs", json=PROMPT)
    else:
        await limit(gpu_seconds_per_minute=EACH)
        await client.post("/v1/jobs", json={**PROMPT, "n": 2})
    refused = await client.post(path, **sent)

    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == refusal
    assert int(refused.headers["retry-after"]) >= 1
    assert stored(settings) == []
    assert await count_rows(services.database, "sources") == 0
    assert await count_rows(services.database, "jobs") == 1


async def test_an_edit_is_charged_once(
    client: httpx2.AsyncClient, services: Services, limit: Limit
) -> None:
    sent = uploads.upload(uploads.good)()
    sent["data"] |= {"num_inference_steps": "8", "guidance_scale": "3.0", "size": "64x64"}
    sent["data"]["strength"] = "1.0"
    await limit(gpu_seconds_per_minute=1.5 * EACH, requests_per_minute=3)
    await edited(client, services, sent)

    again = await client.post(PATH, **sent)

    assert again.json()["error"]["code"] == "rate_limit_exceeded"
    assert '"requests";r=1;' in again.headers["ratelimit"]


async def test_who_was_accepted_before_is_told_so_however_long_the_queue(
    client: httpx2.AsyncClient, services: Services
) -> None:
    sent = uploads.upload(uploads.good)
    headers = {"Idempotency-Key": "a"}
    first = asyncio.create_task(client.post(PATH, **sent(), headers=headers))
    await first_job(client)
    services.jobs.admission.queues[DEFAULT_POOL] = QueueView(
        services.database, list(services.settings.served), 1e-9
    )
    again = asyncio.create_task(client.post(PATH, **sent(), headers=headers))
    other = await client.post(PATH, **sent(), headers={"Idempotency-Key": "b"})
    desk = Desk(services)
    for claim in await desk.claim():
        await desk.finish(claim)

    assert other.json()["error"]["code"] == "overloaded"
    assert (await first).json() == (await again).json()


async def test_no_tenant_draws_from_anothers_picture(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, services: Services
) -> None:
    """The same picture of two tenants lies there twice, under each one's own key."""
    asking = [
        asyncio.create_task(each.post(PATH, **uploads.upload(uploads.good)()))
        for each in (client, stranger)
    ]
    await asyncio.gather(first_job(client), first_job(stranger))
    desk = Desk(services)
    claims = await desk.claim()
    for claim in claims:
        await desk.finish(claim)
    await asyncio.gather(*asking)

    keys = [claim.sources["image"] for claim in claims]
    assert len({key.tenant_id for key in keys}) == 2
    assert len({key.sha256 for key in keys}) == 1
    assert await count_rows(services.database, "sources") == 2
