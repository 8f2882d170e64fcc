"""Folders whose weights are saved as a variant, as most downloads are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.errors import BrokenWeightsError, MissingPartError
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.parts import check_parts
from pipelines.diffusion.request import Output, Request, Result, SamplingParams
from pipelines.diffusion.weights import count_tensors, variant_of, weight_files, weights_bytes

NETWORKS = ("unet", "vae", "text_encoder")


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def save_as(folder: Path, part: str, variant: str, max_shard_size: str = "10GB") -> None:
    """Writes the network's weights as a variant alone."""
    class_ = {"unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}[part]
    network = class_.from_pretrained(folder / part)
    for file in weight_files(folder / part):
        file.unlink()
    network.save_pretrained(folder / part, variant=variant, max_shard_size=max_shard_size)


def rename(folder: Path, part: str, variant: str) -> None:
    (file,) = weight_files(folder / part)
    file.rename(file.with_name(file.name.replace(".safetensors", f".{variant}.safetensors")))


def assert_as(folder: Path, whole: Path) -> None:
    """Loads the same weights, of which all who read them count the same."""
    check_parts(folder)
    assert weights_bytes(folder, torch.float32) == weights_bytes(whole, torch.float32)
    ours, theirs = load_model(folder, device="cpu"), load_model(whole, device="cpu")
    assert isinstance(ours, StableDiffusion)
    assert isinstance(theirs, StableDiffusion)
    for part in NETWORKS:
        assert count_tensors(folder / part) == count_tensors(whole / part)
        wanted = theirs.pipeline.components[part].state_dict()
        for name, tensor in ours.pipeline.components[part].state_dict().items():
            torch.testing.assert_close(tensor, wanted[name], atol=0, rtol=0)


def test_all_networks_as_a_variant(
    folder: Path,
    model_folder: Path,
    params: Callable[..., SamplingParams],
    run: Callable[..., list[Output]],
) -> None:
    for part in NETWORKS:
        rename(folder, part, "fp16")
        assert variant_of(folder / part) == "fp16"
    (folder / "tokenizer" / "LICENSE").write_text("a file without a dot")
    assert_as(folder, model_folder)
    outputs = run(DiffusionEngine(load_model(folder, device="cpu")), Request("one", params()))
    assert isinstance(outputs[-1], Result)


def test_each_network_as_another_variant(folder: Path, model_folder: Path) -> None:
    rename(folder, "unet", "fp16")
    rename(folder, "text_encoder", "bf16")
    assert_as(folder, model_folder)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_shards_of_a_variant(folder: Path, model_folder: Path, part: str) -> None:
    save_as(folder, part, "fp16", max_shard_size="10KB")
    assert len(weight_files(folder / part)) > 1
    assert_as(folder, model_folder)
    gone = weight_files(folder / part)[0]
    gone.unlink()
    with pytest.raises(MissingPartError, match=f"{gone.name}' is missing, a shard .*; copy"):
        load_model(folder, device="cpu")


def test_weights_without_a_variant_come_first(folder: Path, model_folder: Path) -> None:
    """A pickled one of the same name as well, which diffusers would look for."""
    (file,) = weight_files(folder / "unet")
    file.with_name("diffusion_pytorch_model.fp16.safetensors").write_bytes(b"not read")
    file.with_name("diffusion_pytorch_model.fp16.bin").write_bytes(b"not read")
    rename(folder, "vae", "fp16")
    assert variant_of(folder / "unet") is None
    assert_as(folder, model_folder)


def test_among_variants_that_of_the_most_digits(folder: Path) -> None:
    (file,) = weight_files(folder / "unet")
    for variant in ("ema", "fp16", "bf16"):
        shutil.copy(file, file.with_name(f"diffusion_pytorch_model.{variant}.safetensors"))
    file.unlink()
    assert variant_of(folder / "unet") == "bf16"


def test_files_that_no_loader_reads_do_not_count(folder: Path, model_folder: Path) -> None:
    """As original checkpoints beside diffusers' own, or a whole file beside its shards."""
    whole = load_file(weight_files(folder / "unet")[0])
    save_as(folder, "unet", "fp16", max_shard_size="10KB")
    (folder / "unet" / "consolidated.safetensors").write_bytes(b"not read")
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"not read")
    assert count_tensors(folder / "unet") == len(whole)
    assert_as(folder, model_folder)


def test_a_variant_that_is_cut_short(folder: Path) -> None:
    rename(folder, "unet", "fp16")
    (file,) = weight_files(folder / "unet")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(BrokenWeightsError, match=r"fp16.safetensors' is cut short or is not"):
        load_model(folder, device="cpu")
