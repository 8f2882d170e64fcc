"""A model folder that cannot be served: a typed error that names the file and the cure."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from pipelines.diffusion.errors import (
    BrokenPartError,
    BrokenWeightsError,
    CustomCodeError,
    MissingPartError,
    ModelIndexError,
    ModelLoadError,
    PickledWeightsError,
    UnsupportedFamilyError,
)
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.loading import load_model

UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def shard(folder: Path) -> list[Path]:
    """Splits the UNet's weights over several files."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    (folder / UNET).unlink()
    unet.save_pretrained(folder / "unet", max_shard_size="50KB")
    return sorted((folder / "unet").glob("*-of-*.safetensors"))


def test_pickled_weights(folder: Path) -> None:
    (folder / UNET).rename((folder / UNET).with_suffix(".bin"))
    with pytest.raises(PickledWeightsError, match=r"unet' has only pickled weights.*convert"):
        load_model(folder)


def test_no_weights(folder: Path) -> None:
    (folder / TEXT).unlink()
    with pytest.raises(MissingPartError, match=r"text_encoder' has no model.safetensors; download"):
        load_model(folder)


def test_missing_part(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(MissingPartError, match="tokenizer' is missing; copy"):
        load_model(folder)


def test_shards(folder: Path) -> None:
    assert len(shard(folder)) > 1
    assert isinstance(load_model(folder, device="cpu"), StableDiffusion)


def test_missing_shard(folder: Path) -> None:
    gone = shard(folder)[1]
    gone.unlink()
    with pytest.raises(MissingPartError, match=f"{gone.name}' is missing, a shard .*; copy"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("weights", [UNET, TEXT, VAE])
@pytest.mark.parametrize("kept", [0, 5, 100, -100])
def test_truncated_weights(folder: Path, weights: str, kept: int) -> None:
    (folder / weights).write_bytes((folder / weights).read_bytes()[:kept])
    with pytest.raises(BrokenWeightsError, match=f"{weights}' is cut short or is not.*; copy"):
        load_model(folder, device="cpu")


def test_what_is_no_safetensors(folder: Path) -> None:
    (folder / UNET).write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(BrokenWeightsError, match=f"{UNET}' is cut short or is not safetensors"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("weights", [UNET, TEXT, VAE])
def test_missing_tensors(folder: Path, weights: str) -> None:
    """diffusers and transformers would draw with random numbers in their place."""
    tensors = load_file(folder / weights)
    left = dict(list(tensors.items())[1:])
    save_file(left, folder / weights, metadata={"format": "pt"})
    told = rf"holds {len(left)} tensors of the {len(tensors)} .*; copy"
    with pytest.raises(BrokenWeightsError, match=told):
        load_model(folder, device="cpu")


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("unet", {"cross_attention_dim": 32}),
        ("vae", {"latent_channels": 8}),
        ("text_encoder", {"intermediate_size": 64}),
    ],
)
def test_weights_of_other_sizes(folder: Path, part: str, values: dict[str, int]) -> None:
    change(folder / part / "config.json", **values)
    with pytest.raises(BrokenPartError, match=rf"{part}' cannot be loaded as \w+; copy all its"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("content", ["{", '{"version": "1.0"}'])
def test_broken_tokenizer(folder: Path, content: str) -> None:
    (folder / "tokenizer" / "tokenizer.json").write_text(content)
    with pytest.raises(ModelLoadError, match=r"/tokenizer(/tokenizer.json)?' .*; copy"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize(
    "file", ["tokenizer/tokenizer_config.json", "text_encoder/config.json", "unet/config.json"]
)
def test_what_is_not_json(folder: Path, file: str) -> None:
    (folder / file).write_text("{")
    with pytest.raises(ModelIndexError, match=f"{file}' is not JSON; copy"):
        load_model(folder, device="cpu")


def test_index_that_is_not_json(folder: Path) -> None:
    (folder / "model_index.json").write_text("<html>")
    with pytest.raises(ModelIndexError, match=r"model_index.json' is not JSON; copy"):
        load_model(folder)


def test_unknown_pipeline(folder: Path) -> None:
    change(folder / "model_index.json", _class_name="SomeOtherPipeline")
    with pytest.raises(
        UnsupportedFamilyError, match=r"'SomeOtherPipeline', which is not served; choose"
    ):
        load_model(folder)


@pytest.mark.parametrize("origin", [["diffusers", "NoSuchUNet"], ["unheard_of", "UNet"]])
def test_unknown_part(folder: Path, origin: list[str]) -> None:
    change(folder / "model_index.json", unet=origin)
    with pytest.raises(ModelIndexError, match=rf"names '{origin[1]}' of '{origin[0]}'.*; upgrade"):
        load_model(folder, device="cpu")


def test_part_with_code_of_its_own(folder: Path) -> None:
    change(folder / "model_index.json", unet=["my_unet", "MyUNet"])
    (folder / "unet" / "my_unet.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(CustomCodeError, match=r"my_unet.py' is the model's own code, which"):
        load_model(folder, device="cpu")


def test_float8_weights_are_read_as_they_are(folder: Path) -> None:
    """Plainly rounded ones: the device computes in another dtype."""
    rounded = {
        name: each.to(torch.float8_e4m3fn) for name, each in load_file(folder / UNET).items()
    }
    save_file(rounded, folder / UNET, metadata={"format": "pt"})
    assert load_model(folder, device="cpu", dtype="float32").dtype == torch.float32


def test_parts_that_do_not_belong_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def init(*_: object) -> None:
        raise ValueError("4 channels for 8\nand more")

    monkeypatch.setattr(StableDiffusion, "__init__", init)
    with pytest.raises(
        ModelLoadError, match=r"though each of its parts can be.*: 4 channels for 8$"
    ):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer"])
def test_nothing_is_read_twice_to_explain_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Whichever part is broken, in the order in which they are read."""
    reads: Counter[str] = Counter()
    for class_ in (UNet2DConditionModel, AutoencoderKL, CLIPTextModel):
        monkeypatch.setattr(class_, "from_pretrained", counting(class_.from_pretrained, reads))
    if part == "tokenizer":
        (folder / part / "tokenizer.json").write_text("{}")
    else:
        tensors = load_file(next((folder / part).glob("*.safetensors")))
        grown = {
            name: tensor.repeat(2, *[1] * (tensor.dim() - 1)) for name, tensor in tensors.items()
        }
        save_file(grown, next((folder / part).glob("*.safetensors")), metadata={"format": "pt"})
    with pytest.raises(BrokenPartError, match=f"{part}' cannot be loaded as"):
        load_model(folder, device="cpu")
    assert max(reads.values(), default=1) == 1
    assert reads[part] == (part != "tokenizer")


def counting(read: Callable[..., Any], reads: Counter[str]) -> Callable[..., Any]:
    def counted(folder: Path, **options: Any) -> Any:
        reads[folder.name] += 1
        return read(folder, **options)

    return counted
