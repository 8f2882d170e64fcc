"""The application as `serve deploy` and KubeRay import it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ray.serve import Application
from ray.serve.schema import ServeDeploySchema

from serve.app import build_app, diffusion_deployment, first_gpus
from serve.environment import WrongSettings, read_settings
from serve.settings import Settings

pytestmark = pytest.mark.usefixtures("environment")

CONFIG = Path(__file__).parents[2] / "serve_config.yaml"
SERVERS = {"database_url": "postgresql://db/sfumato", "redis_url": "redis://bus"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", SERVERS["database_url"])


def test_the_configuration_file_names_an_application_that_binds() -> None:
    config = ServeDeploySchema(**yaml.safe_load(CONFIG.read_text()))
    (application,) = config.applications
    assert application.import_path == "serve.app:build_app"
    assert isinstance(build_app({**SERVERS, **application.args}), Application)


def test_arguments_override_settings_and_wrong_ones_are_named() -> None:
    assert isinstance(build_app({**SERVERS, "scaling": {"diffusion_max": 4}}), Application)
    with pytest.raises(WrongSettings) as wrong:
        build_app({**SERVERS, "scaling": {"diffusion_mx": 4}, "prot": 80})
    assert wrong.value.lines == [
        "SFUMATO_SCALING__DIFFUSION_MX is no setting; the nearest is"
        " SFUMATO_SCALING__DIFFUSION_MAX: correct it or remove it.",
        "SFUMATO_PROT is no setting; the nearest is SFUMATO_PORT: correct it or remove it.",
    ]


def test_the_environment_is_checked_as_by_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_WORKERS__MAX_BATCH", "4")
    with pytest.raises(WrongSettings, match="the nearest is SFUMATO_WORKER__MAX_BATCH"):
        build_app(SERVERS)


def test_each_pool_has_a_deployment_with_its_own_resources() -> None:
    pools = {
        "small": {"models": ["sfumato-embedded"], "max": 4, "cpus": 2},
        "large": {"models": ["flux"], "gpus": 1, "accelerator": "H100", "min": 0, "max": 8},
    }
    args = {**SERVERS, "models": {"flux": {"path": "/models/flux"}}, "pools": pools}
    settings = read_settings(args)
    small = diffusion_deployment(settings, "small")
    large = diffusion_deployment(settings, "large")

    assert (small.name, large.name) == ("Diffusion-small", "Diffusion-large")
    assert small.ray_actor_options is not None
    assert large.ray_actor_options is not None
    assert small.ray_actor_options["num_cpus"] == 2
    assert small.ray_actor_options["num_gpus"] == 0, "there is no Ray that has any"
    assert "accelerator_type" not in small.ray_actor_options
    assert large.ray_actor_options["num_gpus"] == 1
    assert large.ray_actor_options["accelerator_type"] == "H100"
    scaling = large._deployment_config.autoscaling_config
    assert scaling is not None
    assert (scaling.min_replicas, scaling.initial_replicas, scaling.max_replicas) == (0, 1, 8)
    assert isinstance(build_app(args), Application)


def test_one_pool_keeps_the_deployments_name() -> None:
    assert diffusion_deployment(read_settings(SERVERS), "default").name == "Diffusion"


@pytest.mark.parametrize(
    ("resources", "device", "gpus"),
    [({"CPU": 4.0}, "auto", 0), ({"GPU": 2.0}, "auto", 1), ({"GPU": 2.0}, "cpu", 0)],
)
def test_a_replica_has_a_gpu_where_ray_has_any(
    monkeypatch: pytest.MonkeyPatch, resources: dict[str, float], device: str, gpus: float
) -> None:
    monkeypatch.setattr("serve.app.ray.is_initialized", lambda: True)
    monkeypatch.setattr("serve.app.ray.cluster_resources", lambda: resources)
    settings = read_settings({**SERVERS, "model": {"device": device}})
    options = diffusion_deployment(settings, "default").ray_actor_options
    assert options is not None
    assert options["num_gpus"] == gpus
    assert first_gpus(settings) == (gpus, resources.get("GPU", 0))


def test_missing_servers_are_named_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    with pytest.raises(ValueError, match="Set DATABASE_URL and REDIS_URL"):
        build_app({"redis_url": "redis://bus"})


def test_the_database_is_named_in_the_clusters_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    with pytest.raises(ValueError, match="in the environment of the cluster"):
        build_app(SERVERS)


def test_no_url_is_shown() -> None:
    url = "postgresql://sfumato:open-sesame@db/sfumato"
    settings = Settings(database_url=url, redis_url="redis://:open-sesame@bus")
    assert "sesame" not in repr(settings)
    assert "sesame" not in settings.model_dump_json()


def test_the_ingress_never_imports_torch() -> None:
    code = "import sys; import serve.deployments.ingress; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
