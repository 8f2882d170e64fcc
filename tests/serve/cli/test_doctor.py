"""What `sfumato doctor` reports of the models, of moderation and of grammars."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from diffusers import StableDiffusionPipeline

from serve.cli import doctor
from serve.cli.checks import check_grammars
from serve.settings import ArtistSettings, FurtherModelSettings, ModerationSettings, Settings
from tests.pipelines.diffusion.tiny import safety_checker
from tests.pipelines.diffusion.tiny.stable_diffusion import build_pipeline


def test_every_model_is_checked(
    database_url: str, valkey_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_pipeline().save_pretrained(tmp_path / "tiny")
    parts = build_pipeline().components | safety_checker.build_parts()
    StableDiffusionPipeline(**parts).save_pretrained(tmp_path / "checked")
    build_pipeline().save_pretrained(tmp_path / "halves", variant="fp16")
    build_pipeline().save_pretrained(tmp_path / "gone")
    (tmp_path / "ink.safetensors").write_bytes(b"no safetensors")
    (tmp_path / "tiny" / "config.json").write_text("{}")
    (tmp_path / "gone" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    models = {
        "checked": FurtherModelSettings(
            path=str(tmp_path / "checked"), dtype="float16", device="cpu"
        ),
        "tiny": FurtherModelSettings(path=str(tmp_path / "tiny"), dtype="float16", device="cpu"),
        "halves": FurtherModelSettings(path=str(tmp_path / "halves"), device="cpu"),
        "gone": FurtherModelSettings(path=str(tmp_path / "gone"), device="cpu"),
        "lost": FurtherModelSettings(path="/no/such"),
        "odd": FurtherModelSettings(path=str(tmp_path / "tiny"), device="cuda:99"),
        "inked": FurtherModelSettings(
            path=str(tmp_path / "tiny"), device="cpu", loras={"ink": tmp_path / "ink.safetensors"}
        ),
        "led": FurtherModelSettings(
            path=str(tmp_path / "tiny"), device="cpu", controlnets={"edges": tmp_path / "tiny"}
        ),
        "small": FurtherModelSettings(path=str(tmp_path / "tiny"), max_pixels=64),
    }
    settings = Settings(
        database_url=database_url, redis_url=valkey_url, data_dir=tmp_path, models=models
    )

    assert doctor.run(settings) == 1

    output = capsys.readouterr().out
    assert output.count("Service: ") == 1
    assert "✓ Service: none at http://127.0.0.1:8000 (start it with `sfumato up`)\n" in output
    assert "✓ Model: sfumato-embedded: StableDiffusionPipeline, " in output
    assert "✓ Model: tiny: StableDiffusionPipeline, 64×64 pixels, cpu, torch.float16\n" in output
    assert ", 64×64 pixels, cpu, torch.float16, safety checker on\n" in output
    assert "✓ Model: halves: StableDiffusionPipeline, 64×64 pixels, cpu" in output
    assert "✗ Model: gone\n" in output
    assert "unet' has no diffusion_pytorch_model.safetensors; download the model again." in output
    lost = "✗ Model: lost\n    SFUMATO_MODELS (lost.path): There is no model folder '/no/such'"
    assert lost in output
    assert "✗ Model: odd\n    SFUMATO_MODELS (odd.device): " in output
    assert "✗ Model: inked\n" in output
    assert "is not a safetensors file" in output
    assert "✗ Model: led\n" in output
    assert "choose a folder of a 'ControlNetModel'" in output
    assert "SFUMATO_MODELS (small.max_pixels): 64 pixels are fewer than the 64x64" in output


@pytest.mark.parametrize(
    ("rules", "classifier", "mark", "expected"),
    [
        (None, None, "✓", "Moderation: no block-list, no classifier\n"),
        ("grue\n", "judges_here:Judge", "✓", "/list.txt, classifier judges_here:Judge\n"),
        ("grue\n!!!\n", None, "✗", "    Line 2 of the block-list must have"),
        ("/(/\n", None, "✗", "    Line 1 of the block-list is no pattern of RE2"),
        (None, "no_such_judges:Judge", "✗", "    SFUMATO_MODERATION__CLASSIFIER: no_such_judges"),
        (None, "judges_here:Nobody", "✗", "no attribute 'Nobody'. Give package.module:Class."),
    ],
)
def test_moderation_is_set_up_as_replicas_do(
    database_url: str,
    valkey_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rules: str | None,
    classifier: str | None,
    mark: str,
    expected: str,
) -> None:
    """A class in the working directory is found, as Ray finds it for replicas."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "judges_here", raising=False)
    Path("judges_here.py").write_text(
        "class Judge:\n    def classify_prompt(self, text): ...\n"
        "    def classify_picture(self, rgb): ...\n"
    )
    blocklist = None
    if rules is not None:
        blocklist = tmp_path / "list.txt"
        blocklist.write_text(rules)
    settings = Settings(
        database_url=database_url,
        redis_url=valkey_url,
        data_dir=tmp_path,
        moderation=ModerationSettings(blocklist=blocklist, classifier=classifier),
    )
    before = sys.path[:]

    doctor.run(settings)

    output = capsys.readouterr().out
    assert expected in output
    assert f"{mark} Moderation: " in output
    assert sys.path == before


def test_a_grammar_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text('subject = ["a cat"]')
    grammars = {"sfumato-embedded": tmp_path / "broken.toml"}
    finding = check_grammars(Settings(artist=ArtistSettings(grammars=grammars)))
    assert "broken.toml cannot be used: it has no `composition`" in str(finding.cure)
    assert check_grammars(Settings()).cure == ""
