"""Settings and the service that they mean."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from serve.cli.target import api_key, is_loopback, key_file, settings, url_of
from serve.settings import Settings


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ('{"sdxl": {"pth": "/models/sdxl"}}', "✗ SFUMATO_MODELS (sdxl.pth) is no setting: "),
        ('{"sfumato-embedded": {"path": "/models/sdxl"}}', "SFUMATO_MODELS holds"),
        ('{"sdxl', "✗ SFUMATO_MODELS is"),
    ],
)
def test_a_wrong_model_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], models: str, message: str
) -> None:
    monkeypatch.setenv("SFUMATO_MODELS", models)
    with pytest.raises(typer.Exit) as exit_:
        settings()
    assert exit_.value.exit_code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("localhost", "http://localhost:8000"),
        ("::1", "http://[::1]:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),  # noqa: S104
        ("::", "http://[::1]:8000"),
    ],
)
def test_where_a_service_answers(host: str, url: str) -> None:
    assert url_of(host, 8000) == url


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:8000/v1", True),
        ("http://localhost", True),
        ("http://192.0.2.1", False),
        ("https://a.example", False),
    ],
)
def test_what_no_proxy_would_find(url: str, near: bool) -> None:
    assert is_loopback(url) is near


@pytest.mark.parametrize(("text", "key"), [("", None), (" \n", None), ("sfm_a\n", "sfm_a")])
def test_an_empty_key_file_holds_no_key(tmp_path: Path, text: str, key: str | None) -> None:
    settings = Settings(data_dir=tmp_path)
    assert api_key(settings) is None
    key_file(settings).write_text(text)
    assert api_key(settings) == key
