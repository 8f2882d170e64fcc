"""Settings of models, and settings that do not fit each other."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from serve.settings import Settings


def read(monkeypatch: pytest.MonkeyPatch, models: object) -> Settings:
    monkeypatch.setenv("SFUMATO_MODEL__NAME", "sd15")
    monkeypatch.setenv("SFUMATO_MODELS", json.dumps(models))
    return Settings()


def test_the_default_model_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    loras = {"ink": "ink.safetensors"}
    sdxl = {"path": "/models/sdxl", "dtype": "float16", "default_steps": 8, "loras": loras}
    settings = read(monkeypatch, {"sdxl": sdxl, "acme/flux": {"path": "acme/flux"}})

    assert list(settings.served) == ["sd15", "sdxl", "acme/flux"]
    assert settings.served["sd15"] is settings.model
    model = settings.served["sdxl"]
    assert (model.path, model.dtype, model.default_steps) == ("/models/sdxl", "float16", 8)
    assert {name: str(path) for name, path in model.loras.items()} == loras
    assert settings.served["acme/flux"].max_steps == settings.model.max_steps
    assert settings.worker.model_bytes is None


def test_one_model_is_served_where_no_more_are_named() -> None:
    assert list(Settings().served) == ["sfumato-embedded"]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"sdxl": {"path": "/models/sdxl", "stesp": 8}}, r"models\.sdxl\.stesp"),
        ({"sdxl": {"path": "/models/sdxl", "name": "xl"}}, r"models\.sdxl\.name"),
        ({"sdxl": {}}, r"models\.sdxl\.path"),
        ({"": {"path": "/models/sdxl"}}, "at least 1 character"),
        ({"sd15": {"path": "/models/sdxl"}}, "SFUMATO_MODELS holds 'sd15'.*rename one"),
    ],
)
def test_what_cannot_be_served_is_refused(
    monkeypatch: pytest.MonkeyPatch, models: object, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        read(monkeypatch, models)


def test_aliases_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_MODEL__ALIASES", '["dall-e-3", "gpt-image-1"]')
    settings = read(monkeypatch, {"sdxl": {"path": "/models/sdxl", "aliases": ["xl"]}})

    names = ["dall-e-3", "gpt-image-1", "xl", "sdxl", "sd15", "other"]
    assert [settings.served_name(name) for name in names] == [
        "sd15",
        "sd15",
        "sdxl",
        "sdxl",
        "sd15",
        "other",
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [(["xl"], ["xl"]), (["xl", "xl"], []), (["sdxl"], []), ([], ["sd15"]), (["sd15"], [])],
)
def test_a_name_is_one_models(
    monkeypatch: pytest.MonkeyPatch, first: list[str], second: list[str]
) -> None:
    monkeypatch.setenv("SFUMATO_MODEL__ALIASES", json.dumps(first))
    with pytest.raises(ValidationError, match="names two models, or one twice"):
        read(monkeypatch, {"sdxl": {"path": "/models/sdxl", "aliases": second}})


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"SFUMATO_WORKER__LEASE_S": "3"},
            "SFUMATO_WORKER__LEASE_S is 3 and SFUMATO_WORKER__HEARTBEAT_S is 3: .* Raise"
            " SFUMATO_WORKER__LEASE_S to 9 or more, or lower SFUMATO_WORKER__HEARTBEAT_S to 1 or",
        ),
        ({"SFUMATO_WORKER__HEARTBEAT_S": "5.1"}, "LEASE_S to 15.3 .*HEARTBEAT_S to 5 or less"),
        (
            {"SFUMATO_SCALING__DIFFUSION_MIN": "2"},
            "SFUMATO_SCALING__DIFFUSION_MIN is 2 and SFUMATO_SCALING__DIFFUSION_MAX is 1: raise"
            " SFUMATO_SCALING__DIFFUSION_MAX to 2 or more, or lower",
        ),
    ],
)
def test_two_that_do_not_fit_are_both_named_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=message):
        Settings()


def test_a_short_lease_goes_with_short_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_WORKER__LEASE_S", "3")
    monkeypatch.setenv("SFUMATO_WORKER__HEARTBEAT_S", "0.5")
    assert Settings().worker.lease_s == 3
