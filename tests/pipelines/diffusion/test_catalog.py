from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.diffusion.catalog import ModelDescription, describe, find_description
from pipelines.diffusion.errors import (
    CustomCodeError,
    MissingPartError,
    ModelIndexError,
    ModelLoadError,
    ModelNotFoundError,
)
from pipelines.diffusion.sizes import Sizes, sizes_of


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def change(path: Path, **values: object) -> None:
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps(content))


def test_describe(model_folder: Path) -> None:
    assert describe(model_folder) == ModelDescription(
        class_name="StableDiffusionPipeline",
        default_width=64,
        default_height=64,
        size_multiple=8,
        vae_scale_factor=4,
        scheduler=json.loads((model_folder / "scheduler" / "scheduler_config.json").read_text()),
        max_clip_skip=2,
    )


def test_describe_other_shapes(folder: Path) -> None:
    change(folder / "unet" / "config.json", sample_size=[8, 12])
    change(folder / "vae" / "config.json", block_out_channels=[8] * 5)
    change(folder / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    description = describe(folder)
    assert (description.default_width, description.default_height) == (192, 128)
    assert description.size_multiple == 16
    assert description.scheduler["prediction_type"] == "v_prediction"


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"'.*nothing'; give a diffusers folder"):
        describe(tmp_path / "nothing")


def test_no_index(tmp_path: Path) -> None:
    with pytest.raises(ModelIndexError, match=r"has no model_index\.json; point at"):
        describe(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_broken_index(folder: Path, content: str) -> None:
    (folder / "model_index.json").write_text(content)
    with pytest.raises(ModelIndexError, match=r"model_index\.json' is not"):
        describe(folder)


def test_a_class_that_is_drawn_by_whole_calls(folder: Path) -> None:
    change(folder / "model_index.json", _class_name="KolorsPipeline")
    description = describe(folder)
    assert description.class_name == "KolorsPipeline"
    assert description.default_width == 64
    assert description.scheduler["_class_name"] == "DDIMScheduler"


@pytest.mark.parametrize(
    ("denoiser", "decoder", "expected"),
    [
        # PixArt-alpha, Sana, Qwen-Image, Chroma, Kandinsky 2.2, DeepFloyd IF
        (
            {"sample_size": 128, "patch_size": 2, "in_channels": 4},
            {"block_out_channels": [128, 256, 512, 512], "latent_channels": 4},
            Sizes(1024, 1024, 16, 8),
        ),
        (
            {"sample_size": 32, "patch_size": 1, "in_channels": 32},
            {"encoder_block_out_channels": [128, 256, 512, 512, 1024, 1024], "latent_channels": 32},
            Sizes(1024, 1024, 32, 32),
        ),
        (
            {"patch_size": 2, "in_channels": 64},
            {"dim_mult": [1, 2, 4, 4], "z_dim": 16},
            Sizes(1024, 1024, 16, 8),
        ),
        (
            {"patch_size": 1, "in_channels": 64},
            {"block_out_channels": [128, 256, 512, 512], "latent_channels": 16},
            Sizes(1024, 1024, 16, 8),
        ),
        (
            {"sample_size": 64, "in_channels": 4},
            {"block_out_channels": [128, 256, 256, 512], "latent_channels": 4},
            Sizes(512, 512, 8, 8),
        ),
        ({"sample_size": [48, 64]}, None, Sizes(64, 48, 8, 1)),
        ({"patch_size": [1, 2, 2]}, {}, Sizes(1024, 1024, 16, 8)),
        ({}, {"spatial_compression_ratio": 32}, Sizes(1024, 1024, 32, 32)),
    ],
)
def test_sizes(
    denoiser: dict[str, object], decoder: dict[str, object] | None, expected: Sizes
) -> None:
    assert sizes_of(denoiser, decoder) == expected


def test_code_of_its_own(folder: Path) -> None:
    change(folder / "model_index.json", _class_name=["my_pipeline", "MyPipeline"])
    with pytest.raises(CustomCodeError, match="asks for its own code in 'my_pipeline', which is"):
        describe(folder)


def test_no_class(folder: Path) -> None:
    change(folder / "model_index.json", _class_name=None)
    with pytest.raises(ModelIndexError, match="lacks '_class_name'; point at"):
        describe(folder)


def test_missing_part(folder: Path) -> None:
    shutil.rmtree(folder / "vae")
    with pytest.raises(MissingPartError, match=r"vae/config.json' is missing; copy"):
        describe(folder)


def test_missing_field(folder: Path) -> None:
    change(folder / "unet" / "config.json", sample_size=None)
    with pytest.raises(ModelIndexError, match="lacks 'sample_size'") as raised:
        describe(folder)
    assert isinstance(raised.value, ModelLoadError)


def test_nothing_here_imports_torch() -> None:
    modules = ["batching.batcher", "batching.cost", "catalog", "errors", "request"]
    modules += ["speed.acceleration"]
    code = "import sys; " + "; ".join(f"import pipelines.diffusion.{name}" for name in modules)
    code += "; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_local_folder_is_its_own_description(model_folder: Path) -> None:
    assert find_description(str(model_folder)) == model_folder


def test_a_model_that_is_nowhere_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match="neither a folder nor"):
        find_description("sfumato/nowhere-to-be-found")
