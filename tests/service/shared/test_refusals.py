"""Bad requests get the documented error and leave no row."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.conftest import Service

GENERATIONS = "/v1/images/generations"
JOBS = "/v1/jobs"
GOOD = {"prompt": "red heart"}


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"colour": "red"}, 400, "colour"),
        ({"size": "0x64"}, 400, "size"),
        ({"size": "513x513"}, 400, "size"),
        ({"num_inference_steps": 10**6}, 400, "num_inference_steps"),
        ({"num_inference_steps": True}, 400, "num_inference_steps"),
        ({"n": 0}, 400, "n"),
        ({"n": 10**9}, 400, "n"),
        ({"model": "mona-lisa"}, 404, "model"),
        ({"prompt": ""}, 400, "prompt"),
        ({"prompt": "a\x00b"}, 400, "prompt"),
        ({"seed": -2}, 400, "seed"),
        ({"scheduler": "fastest"}, 400, "scheduler"),
    ],
    ids=str,
)
def test_generations_answer_in_openais_shape(
    service: Service, change: dict[str, Any], status: int, param: str
) -> None:
    with service.client() as client:
        before = client.get(JOBS).json()["data"][:1]
        answer = client.post(GENERATIONS, json={**GOOD, **change})
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert error["param"] == param
        assert error["message"]
        assert answer.headers["x-request-id"]
        assert client.get(JOBS).json()["data"][:1] == before, "no row is left"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"colour": "red"}, 422),
        ({"width": 0}, 422),
        ({"num_inference_steps": 10**6}, 422),
        ({"model": "mona-lisa"}, 404),
        ({"deadline_s": -1}, 422),
    ],
    ids=str,
)
def test_jobs_answer_with_problem_json(
    service: Service, change: dict[str, Any], status: int
) -> None:
    with service.client() as client:
        before = client.get(JOBS).json()["data"][:1]
        answer = client.post(JOBS, json={**GOOD, **change})
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
        assert client.get(JOBS).json()["data"][:1] == before, "no row is left"


def test_broken_json_and_wrong_keys_are_refused(service: Service) -> None:
    with service.client() as client:
        broken = client.post(
            JOBS, content=b'{"prompt": ', headers={"content-type": "application/json"}
        )
        assert broken.status_code == 400
        for path in (JOBS, "/v1/images"):
            answer = client.get(path, headers={"Authorization": "Bearer " + "x" * 40})
            assert answer.status_code == 401
        answer = client.post(GENERATIONS, json=GOOD, headers={"Authorization": "Bearer nobody"})
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
