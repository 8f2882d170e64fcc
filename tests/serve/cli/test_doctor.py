"""What `sfumato doctor` says of the models."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.cli import doctor
from serve.settings import FurtherModelSettings, Settings
from tests.pipelines.diffusion.tiny.stable_diffusion import build_pipeline


def test_every_model_is_checked(
    database_url: str, valkey_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_pipeline().save_pretrained(tmp_path / "tiny")
    models = {
        "tiny": FurtherModelSettings(path=str(tmp_path / "tiny"), dtype="float16", device="cpu"),
        "lost": FurtherModelSettings(path="/no/such"),
        "odd": FurtherModelSettings(path=str(tmp_path / "tiny"), device="abacus"),
    }
    settings = Settings(
        database_url=database_url, redis_url=valkey_url, data_dir=tmp_path, models=models
    )

    assert doctor.run(settings) == 1

    said = capsys.readouterr().out
    assert "✓ Model: sfumato-embedded: StableDiffusionPipeline, " in said
    assert "✓ Model: tiny: StableDiffusionPipeline, 64×64 pixels, cpu, torch.float16\n" in said
    assert "✗ Model: lost\n    There is no model folder '/no/such'" in said
    assert "✗ Model: odd\n    There is no device 'abacus'" in said
