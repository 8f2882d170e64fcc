"""compose.yaml and the form of its secrets."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from serve.environment import read_settings
from tests.images.dockerfile import DOCKERFILES, ROOT, Dockerfile

SCHEMA = ROOT / "tests/data/compose/compose-spec.json"
TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
FORM = dict(
    re.findall(r"^(?:# )?([A-Z][A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
)
"""What .env may set; a comment there may hold an example."""


def test_it_is_a_compose_file() -> None:
    validator = Draft7Validator(json.loads(SCHEMA.read_text()))
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(COMPOSE)] == []


def test_what_it_names_is_there() -> None:
    for service in SERVICES.values():
        volumes = [volume.partition(":")[0] for volume in service.get("volumes", [])]
        assert {name for name in volumes if name.isalnum()} <= set(COMPOSE["volumes"])
        for name, needed in service.get("depends_on", {}).items():
            assert needed == {"condition": "service_healthy"}
            assert "healthcheck" in SERVICES[name]


def test_each_image_is_built_of_its_dockerfile() -> None:
    builds = [service["build"] for service in OURS.values()]
    names = [
        build.get("dockerfile") if isinstance(build, dict) else "Dockerfile" for build in builds
    ]
    assert names == list(DOCKERFILES)


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - OURS.keys()))
def test_images_of_others_are_pinned_to_a_version(name: str) -> None:
    assert re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?-trixie", SERVICES[name]["image"])


def test_one_of_the_two_runs_by_the_form() -> None:
    assert FORM["COMPOSE_PROFILES"] in {each for one in OURS.values() for each in one["profiles"]}
    assert [each for one in SERVICES.values() for each in one.get("profiles", [])] == ["cpu", "gpu"]


def test_secrets_are_asked_for_and_given_nowhere() -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert asked == {"POSTGRES_PASSWORD", "SFUMATO_API_KEY"}
    assert [name for name in asked if FORM[name]] == []
    assert re.findall(r"://\w+:[^$].*@", TEXT) == []
    assert set(re.findall(r"\$\{(\w+)", TEXT)) <= set(FORM)


def test_git_ignores_the_secrets() -> None:
    ignored = subprocess.run(["git", "check-ignore", "-q", ".env"], cwd=ROOT, check=False)
    assert ignored.returncode == 0
    tracked = subprocess.run(
        ["git", "ls-files", ".env"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert tracked.stdout == ""


@pytest.mark.parametrize(("name", "dockerfile"), [*zip(OURS, DOCKERFILES, strict=True)])
def test_the_service_understands_its_variables(
    name: str, dockerfile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"POSTGRES_PASSWORD": "p" * 64, "SFUMATO_API_KEY": "k" * 64}
    given = Dockerfile.named(dockerfile).environment | FORM | OURS[name]["environment"]
    for variable, value in given.items():
        if variable.startswith("SFUMATO_") or variable in ("DATABASE_URL", "REDIS_URL"):
            monkeypatch.setenv(
                variable, re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: secrets[found[1]], value)
            )
    settings = read_settings()
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "k" * 64
    assert f"{settings.data_dir}" in {volume.split(":")[1] for volume in OURS[name]["volumes"]}
    assert int(OURS[name]["stop_grace_period"].removesuffix("s")) > settings.worker.drain_s


@pytest.mark.parametrize("name", OURS)
def test_the_service_is_confined(name: str) -> None:
    service = OURS[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert not any("ports" in other for other in SERVICES.values() if other not in OURS.values())
