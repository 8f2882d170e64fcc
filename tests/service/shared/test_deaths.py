"""A killed replica loses nothing, and only one `sfumato up` runs."""

from __future__ import annotations

import signal
import time

from tests.service.conftest import Service
from tests.service.shared.test_events import open_socket, watch


def test_a_killed_diffusion_replica_loses_no_picture(service: Service) -> None:
    body = {"prompt": "a cat", "n": 2, "num_inference_steps": 150, "seed": 9}
    with service.client() as client, open_socket(service) as socket:
        job = client.post("/v1/jobs", json=body).json()
        until = time.monotonic() + 120
        while client.get(f"/v1/jobs/{job['id']}").json()["state"] != "running":
            assert time.monotonic() < until
            time.sleep(0.05)
        (replica,) = service.replicas("Diffusion")
        replica.send_signal(signal.SIGKILL)
        until = time.monotonic() + 300
        while job["state"] in ("queued", "running"):
            assert time.monotonic() < until, job
            time.sleep(0.5)
            job = client.get(f"/v1/jobs/{job['id']}").json()
        assert job["state"] == "succeeded", job
        assert [image["state"] for image in job["images"]] == ["succeeded"] * 2
        events = [event["type"] for event in watch(socket, job["id"])]
        assert events.count("image.succeeded") == 2
        assert events[-1] == "job.succeeded"
        assert service.replicas("Diffusion")[0].pid != replica.pid


def test_a_second_up_says_that_one_runs(service: Service) -> None:
    second = service.run("up")
    assert second.returncode == 1
    assert "runs already" in second.stdout
    assert str(service.process.pid) in second.stdout
