"""What the environment says, and the sentence for what it says wrongly."""

from __future__ import annotations

import os

import pytest

from serve.environment import WrongSettings, read_settings


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.upper().startswith("SFUMATO_") or name in ("DATABASE_URL", "REDIS_URL"):
            monkeypatch.delenv(name)


def said(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongSettings) as wrong:
        read_settings()
    return str(wrong.value)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("SFUMATO_PROT", "SFUMATO_PORT"),
        ("SFUMATO_MODEL__NAMEE", "SFUMATO_MODEL__NAME"),
        ("SFUMATO_MODEL_NAME", "SFUMATO_MODEL__NAME"),
        ("SFUMATO_WORKERS__MAX_BATCH", "SFUMATO_WORKER__MAX_BATCH"),
        ("SFUMATO_MAX_BATCH", "SFUMATO_WORKER__MAX_BATCH"),
        ("SFUMATO_DATABASE_URL", "DATABASE_URL"),
        ("sfumato_storage_uri", "SFUMATO_STORAGE_URL"),
        ("SFUMATO_APIKEY", "SFUMATO_API_KEY"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    sentence = said(monkeypatch, name, "4")
    assert sentence.startswith(f"{name} is no setting; the nearest is {nearest}: ")


def test_a_name_like_no_other_is_refused_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, "SFUMATO_ZZZZ", "4").startswith("SFUMATO_ZZZZ is no setting: correct")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SFUMATO_URL", "http://127.0.0.1:8000"),
        ("SFUMATO_KEY", "secret"),
        ("SFUMATO_LOGS", "/var/log"),
        ("SFUMATO_CLIENT_RETRIES", "4"),
        ("SFUMATO_SERVICE_HOST", "10.0.0.1"),
        ("SFUMATO_SERVICE_PORT_HTTP", "8000"),
        ("SFUMATO_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("SFUMATO_HEAD_SVC_PORT", "tcp://10.0.0.1:6379"),
        ("SFUMATO_HEAD_SVC_SERVICE_PORT_GCS_SERVER", "6379"),
        ("SFUMATO_HAPROXY_REPLICAS_AT", "127.0.0.1"),
    ],
)
def test_what_is_for_others_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert read_settings().port == 8000


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SFUMATO_HOST", "", "SFUMATO_HOST is empty: unset it, or give it a value."),
        ("SFUMATO_DATA_DIR", "  ", "SFUMATO_DATA_DIR is empty"),
        ("DATABASE_URL", "", "DATABASE_URL is empty"),
        ("REDIS_URL", "", "REDIS_URL is empty"),
        ("SFUMATO_MODELS", "", "SFUMATO_MODELS is empty"),
        ("SFUMATO_PORT", "eight", "SFUMATO_PORT is 'eight': "),
        ("SFUMATO_PORT", "tcp://10.0.0.1:80", "`enableServiceLinks: false`"),
        ("SFUMATO_WORKER", "4", "SFUMATO_WORKER is 4: "),
        (
            "SFUMATO_SPEED__BATCH_BUCKETS",
            "1,2",
            "BATCH_BUCKETS is '1,2', which is no JSON",
        ),
        (
            "SFUMATO_SPEED__BATCH_BUCKETS",
            "[0]",
            "BATCH_BUCKETS is [0]: give numbers",
        ),
        ("SFUMATO_MODELS", '{"a": {}}', "SFUMATO_MODELS (a.path) is missing."),
        (
            "SFUMATO_MODELS",
            '{"a": {"path": "x", "stps": 1}}',
            "_MODELS (a.stps) is no setting",
        ),
        ("SFUMATO_HTTP__ALLOWED_ORIGINS", '["*"]', "SFUMATO_HTTP__ALLOWED_ORIGINS (0) is '*': an"),
        ("SFUMATO_MODEL__DEVICE", "gpu", "is 'gpu': expected: `auto`, `cpu`, `cuda` or `cuda:1`."),
        ("SFUMATO_MODEL__DEFAULT_STEPS", "200", "DEFAULT_STEPS (200) is above MAX_STEPS (150)"),
        (
            "SFUMATO_WORKER__LEASE_S",
            "1",
            "SFUMATO_WORKER__LEASE_S is 1 and SFUMATO_WORKER__HEARTBEAT_S is 3",
        ),
        (
            "SFUMATO_SCALING__INGRESS_MIN",
            "5",
            "SFUMATO_SCALING__INGRESS_MIN is 5 and SFUMATO_SCALING__INGRESS_MAX is 2",
        ),
    ],
)
def test_a_value_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    assert sentence in said(monkeypatch, name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://sfumato:open-sesame@host:port/x"),
        ("DATABASE_URL", "mysql://sfumato:open-sesame@host/x"),
        ("REDIS_URL", "http://:open-sesame@host"),
        ("SFUMATO_API_KEY", "open-sesame"),
        ("SFUMATO_API_KEY", "open-sesame-open-sesame-open-sesame\n"),
        ("SFUMATO_HTTP__URL_SECRET", "open-sesame"),
    ],
)
def test_a_secret_is_refused_by_its_name_alone(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    sentence = said(monkeypatch, name, value)
    assert name in sentence
    assert "sesame" not in sentence


def test_every_fault_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_PORT", "0")
    lines = said(monkeypatch, "SFUMATO_WORKER__MAX_BATCH", "0").splitlines()
    assert [line.partition(" ")[0] for line in lines] == [
        "SFUMATO_PORT",
        "SFUMATO_WORKER__MAX_BATCH",
    ]


def test_a_key_of_a_dictionary_is_the_operators_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_MODEL__LORAS__INK", "ink.safetensors")
    assert [str(path) for path in read_settings().model.loras.values()] == ["ink.safetensors"]
