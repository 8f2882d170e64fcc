"""The application as `serve deploy` and KubeRay import it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from ray.serve import Application
from ray.serve.schema import ServeDeploySchema

from serve.app import build_app

CONFIG = Path(__file__).parents[2] / "serve_config.yaml"
SERVERS = {"database_url": "postgresql://db/sfumato", "redis_url": "redis://bus"}


def test_the_configuration_file_names_an_application_that_binds() -> None:
    config = ServeDeploySchema(**yaml.safe_load(CONFIG.read_text()))
    (application,) = config.applications
    assert application.import_path == "serve.app:build_app"
    assert isinstance(build_app({**SERVERS, **application.args}), Application)


def test_arguments_override_settings_and_wrong_ones_are_named() -> None:
    assert isinstance(build_app({**SERVERS, "scaling": {"diffusion_max": 4}}), Application)
    with pytest.raises(ValidationError, match="diffusion_mx"):
        build_app({**SERVERS, "scaling": {"diffusion_mx": 4}})


def test_missing_servers_are_named_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(ValueError, match="Set DATABASE_URL and REDIS_URL"):
        build_app({"redis_url": "redis://bus"})


def test_the_ingress_never_imports_torch() -> None:
    code = "import sys; import serve.deployments.ingress; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
