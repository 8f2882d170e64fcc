"""Settings and the service that they mean."""

from __future__ import annotations

import pytest
import typer

from serve.cli.target import settings, url_of


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ('{"sdxl": {"pth": "/models/sdxl"}}', "Setting MODELS__SDXL__PTH: "),
        ('{"sfumato-embedded": {"path": "/models/sdxl"}}', "SFUMATO_MODELS holds"),
        ('{"sdxl', 'field "models"'),
    ],
)
def test_a_wrong_model_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], models: str, said: str
) -> None:
    monkeypatch.setenv("SFUMATO_MODELS", models)
    with pytest.raises(typer.Exit) as exit_:
        settings()
    assert exit_.value.exit_code == 2
    assert said in capsys.readouterr().err


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
