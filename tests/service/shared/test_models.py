"""Models come and go while the service runs, without a replica's restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from pipelines.embedded import MODEL_PATH
from tests.pipelines.diffusion.lora.lora_files import matrices, save_peft
from tests.service.conftest import Service, wait_for


def test_a_model_is_added_drawn_with_paused_and_removed(service: Service) -> None:
    def ran(*arguments: str) -> str:
        done = service.run("models", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status() -> dict[str, Any]:
        listed = client.get("/v1/operator/models").json()["data"]
        return next(model for model in listed if model["name"] == "added")

    replicas = [process.pid for process in service.replicas("Diffusion")]
    with service.client() as client:
        ran("add", "added", str(MODEL_PATH), "--max-steps", "30")
        wait_for("the replica to take it up", lambda: status()["ready"] == status()["replicas"] > 0)
        assert "added" in ran("list")

        def draw() -> Any:
            return client.post(
                "/v1/images/generations",
                json={"prompt": "red heart", "model": "added", "num_inference_steps": 4},
            )

        assert draw().status_code == 200
        assert "added is paused: 0 queued, 0 running." in ran("pause", "added", "--drain")
        refused = draw()
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "model_paused")
        ran("resume", "added")
        assert draw().status_code == 200
        ran("remove", "added")
        assert draw().status_code == 404
        again = service.run("models", "remove", "added")
        assert (again.returncode, "Refused (404)" in again.stderr) == (1, True), again.stderr
    assert [process.pid for process in service.replicas("Diffusion")] == replicas


def test_a_lora_is_uploaded_drawn_with_and_removed(service: Service, tmp_path: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(MODEL_PATH)
    file = save_peft(tmp_path / "wash.safetensors", matrices(pipeline, seed=1))

    def draw(**more: Any) -> Any:
        body = {"prompt": "red heart", "seed": 7, "num_inference_steps": 4, **more}
        answer = client.post("/v1/images/generations", json=body)
        return answer.json()["data"][0]["b64_json"] if answer.is_success else answer.status_code

    def run(*arguments: str) -> None:
        done = service.run("models", "lora", *arguments)
        assert done.returncode == 0, done.stderr

    with service.client() as client:
        name = client.get("/v1/models").json()["data"][0]["id"]
        plain = draw()
        run("add", name, "wash", str(file))
        inked = draw(loras=[{"name": "wash"}])
        assert isinstance(inked, str)
        assert inked != plain
        run("remove", name, "wash")
        assert draw(loras=[{"name": "wash"}]) == 400
