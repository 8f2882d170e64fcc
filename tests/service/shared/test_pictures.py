"""What a client gets from the running service."""

from __future__ import annotations

import base64
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openai
from numpy.typing import NDArray
from PIL import Image

from tests.service.conftest import KEY, Service


def pixels(file: bytes) -> NDArray[np.int16]:
    """(height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), dtype=np.int16)


def test_the_openai_client_gets_a_red_heart(service: Service) -> None:
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key=KEY)
    answer = client.images.generate(
        model="sfumato-embedded", prompt="red heart", extra_body={"seed": 1}
    )
    assert answer.data is not None
    (picture,) = answer.data
    assert picture.b64_json is not None
    image = pixels(base64.b64decode(picture.b64_json))
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    reddish = (red > 150) & (green < 110) & (blue < 110)
    height, width = reddish.shape
    centre = reddish[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4]
    assert centre.mean() > 0.5, "the middle of a red heart is red"
    assert not reddish[-height // 8 :, : width // 6].any(), "a heart ends in a point"
    assert [model.id for model in client.models.list()] == ["sfumato-embedded", "twin"]


def test_a_picture_is_drawn_again_from_its_file(service: Service) -> None:
    drawn = service.run("generate", "red heart", "-o", "heart.png", "--seed", "3", "--steps", "5")
    assert drawn.returncode == 0, drawn.stderr
    told = service.run("inspect", "heart.png", "--json")
    parameters = json.loads(told.stdout)["parameters"]
    asked = ("prompt", "seed", "num_inference_steps", "scheduler")
    assert [parameters[name] for name in asked] == ["red heart", 3, 5, "default"]

    same = service.run("redraw", "heart.png")
    assert (same.returncode, same.stdout) == (0, "The pictures are identical.\n"), same.stderr
    other = service.run("redraw", "heart.png", "--prompt", "blue star", "-o", "star.png")
    assert "of the pixels differ" in other.stdout
    assert pixels((service.folder / "star.png").read_bytes()).shape == (64, 64, 3)


def test_a_further_model_draws_by_its_own_settings(service: Service) -> None:
    """The same weights under another name: the same picture, in its own number of steps."""
    body = {"prompt": "red heart", "seed": 5}
    with service.client() as client:
        twin, first = (
            client.post("/v1/images/generations", json={**body, **asked})
            for asked in ({"model": "twin"}, {"num_inference_steps": 6})
        )
        (job,) = client.get("/v1/jobs?limit=2").json()["data"][1:]
    assert (twin.status_code, first.status_code) == (200, 200), twin.text
    assert job["params"]["model"] == "twin"
    drawn, expected = (
        pixels(base64.b64decode(answer.json()["data"][0]["b64_json"])) for answer in (twin, first)
    )
    assert np.abs(drawn - expected).max() <= 1


def test_twelve_mixed_requests_share_steps_and_equal_their_solo_runs(service: Service) -> None:
    asked: list[dict[str, Any]] = [
        {
            "prompt": prompt,
            "seed": 100 + index,
            "num_inference_steps": 8 + 3 * index,
            "guidance_scale": (1.0, 3.0, 5.5)[index % 3],
            "scheduler": ("default", "euler", "dpmpp_2m")[index // 2 % 3],
        }
        for index, prompt in enumerate(["red heart", "a cat", "a house", "green apple"] * 3)
    ]

    def draw(body: dict[str, Any]) -> NDArray[np.int16]:
        with service.client() as client:
            answer = client.post("/v1/images/generations", json=body)
        assert answer.status_code == 200, answer.text
        return pixels(base64.b64decode(answer.json()["data"][0]["b64_json"]))

    def counters() -> tuple[float, float]:
        time.sleep(4)  # a heartbeat brings them
        steps = service.metric("sfumato_engine_steps_total")
        return steps, service.metric("sfumato_engine_rows_total")

    before = counters()
    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(draw, asked))
    after = counters()
    steps, rows = after[0] - before[0], after[1] - before[1]
    assert rows == sum(body["num_inference_steps"] for body in asked)
    assert rows / steps > 2, f"{rows} requests advanced in {steps} steps"
    for body, picture in zip(asked, together, strict=True):
        # 8-bit rounding may turn a difference of 1e-6 into 1.
        assert np.abs(np.subtract(picture, draw(body))).max() <= 1, body


def test_every_format_and_its_thumbnail_can_be_fetched(service: Service) -> None:
    with service.client() as client:
        for output_format in ("png", "webp", "jpeg"):
            body = {"prompt": "a star", "output_format": output_format, "num_inference_steps": 4}
            job = client.post("/v1/jobs", json=body).json()
            until = time.monotonic() + 60
            while job["state"] != "succeeded" and time.monotonic() < until:
                time.sleep(0.1)
                job = client.get(f"/v1/jobs/{job['id']}").json()
            variants = {v["name"]: v for v in job["images"][0]["variants"]}
            assert set(variants) == {"original", "thumbnail"}
            for variant in variants.values():
                file = client.get(variant["url"])
                assert file.headers["content-type"] == variant["media_type"]
                assert len(file.content) == variant["bytes"]
                assert pixels(file.content).shape == (variant["height"], variant["width"], 3)
            assert variants["original"]["media_type"] == f"image/{output_format}"


def test_a_cancelled_job_stops_and_shows_no_picture(service: Service) -> None:
    with service.client() as client:
        body = {"prompt": "a cat", "n": 4, "num_inference_steps": 150}
        job = client.post("/v1/jobs", json=body).json()
        assert client.delete(f"/v1/jobs/{job['id']}").json()["state"] == "cancelled"
        time.sleep(3)
        job = client.get(f"/v1/jobs/{job['id']}").json()
    assert job["state"] == "cancelled"
    assert [image["variants"] for image in job["images"]] == [[]] * 4


def test_the_generate_command_writes_a_file(service: Service) -> None:
    done = service.run("generate", "blue dog", "-o", "dog.webp", "--steps", "6", "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert Image.open(service.folder / "dog.webp").format == "WEBP"
    refused = service.run("generate", "blue dog", "-o", "dog.gif")
    assert refused.returncode == 2
    assert ".png" in refused.stderr
