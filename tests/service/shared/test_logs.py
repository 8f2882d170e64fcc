"""A job is followed through the files in which Serve keeps its replicas' lines."""

from __future__ import annotations

import json
from typing import Any

from tests.service.conftest import Service, wait_for


def lines(service: Service, deployment: str) -> list[dict[str, Any]]:
    """Of all its replicas, ours and Serve's; each is JSON."""
    logs = (service.ray_logs / "serve").glob(f"replica_sfumato_{deployment}_*.log")
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


def test_a_job_is_followed_by_its_id_through_the_replicas_logs(service: Service) -> None:
    with service.client() as client:
        body = {"prompt": "red heart", "num_inference_steps": 2}
        answer = client.post("/v1/jobs", json=body, headers={"X-Request-ID": "followed"})
        job = answer.json()["id"]
        url = f"/v1/jobs/{job}"
        wait_for("it ends", lambda: client.get(url).json()["state"] == "succeeded")
    (asked,) = [line for line in lines(service, "Ingress") if line.get("request_id") == "followed"]
    assert (asked["event"], asked["status"], asked["job_id"]) == ("http.request", 202, job)

    def drawn() -> list[dict[str, Any]]:
        about = [line for line in lines(service, "Diffusion") if line.get("job_id") == job]
        return [line for line in about if line["logger"] == "serve.worker.drawing"]

    wait_for("its picture's line", lambda: bool(drawn()))
    (line,) = drawn()
    assert (line["event"], line["tenant_id"]) == ("picture.succeeded", asked["tenant_id"])
