"""A wrong setting ends a command with a line that names it."""

from __future__ import annotations

import pytest
import typer

from serve.cli.target import settings


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
