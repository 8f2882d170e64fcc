"""A replica's models are loaded as they are configured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines.diffusion.errors import LoraLoadError, MissingPartError, ModelNotFoundError
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.speed.acceleration import Use
from serve.deployments.pool import open_pool
from serve.settings import FurtherModelSettings, ModelSettings, Settings, SpeedSettings
from tests.pipelines.diffusion.tiny.stable_diffusion import build_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build_pipeline().save_pretrained(folder)
    return folder


def serving(folder: Path, *, model_bytes: int | None = None, **models: object) -> Settings:
    return Settings(
        model=ModelSettings(name="first", path=str(folder), device="cpu"),
        models={name: FurtherModelSettings.model_validate(each) for name, each in models.items()},
        speed=SpeedSettings(channels_last=Use.ALWAYS),
        worker={"model_bytes": model_bytes, "threads": torch.get_num_threads()},
    )


def test_each_is_loaded_when_asked_for_with_settings_of_its_own(folder: Path) -> None:
    half = {"path": str(folder), "device": "cpu", "dtype": "bfloat16"}
    pool = open_pool(serving(folder, half=half))
    assert (pool.names, pool.default, pool.loaded) == (["first", "half"], "first", [])
    for name, dtype in (("first", torch.float32), ("half", torch.bfloat16)):
        family = pool.load(name)
        assert isinstance(family, StableDiffusion)
        weight = family.denoiser.conv_in.weight
        assert weight.dtype is dtype
        assert weight.is_contiguous(memory_format=torch.channels_last)
    assert pool.loaded == ["first", "half"]
    pool.close()


def test_the_budget_is_in_bytes_of_each_dtype(folder: Path) -> None:
    """Both fit if one takes half of what the other does, and two of the larger do not."""
    elements = sum(
        parameter.numel()
        for network in build_pipeline().components.values()
        if isinstance(network, torch.nn.Module)
        for parameter in network.parameters()
    )
    budget = int(elements * 4 * 1.6)
    half = {"path": str(folder), "device": "cpu", "dtype": "bfloat16"}
    whole = {"path": str(folder), "device": "cpu"}
    pool = open_pool(serving(folder, model_bytes=budget, half=half, whole=whole))
    pool.load("first")
    pool.load("half")
    assert pool.loaded == ["first", "half"]
    pool.load("whole")
    assert pool.loaded == ["half", "whole"]
    pool.close()


def test_a_folder_that_is_not_there_is_told_at_once(folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"^Model 'lost': There is no model folder '/no/s"):
        open_pool(serving(folder, lost={"path": "/no/such"}))


def test_a_folder_without_weights_is_told_at_once(folder: Path, tmp_path: Path) -> None:
    build_pipeline().save_pretrained(tmp_path)
    for file in (tmp_path / "unet").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(MissingPartError, match=r"^Model 'bare': "):
        open_pool(serving(folder, bare={"path": str(tmp_path)}))


def test_a_lora_that_is_not_there_is_told_with_its_model(folder: Path) -> None:
    inked = {"path": str(folder), "device": "cpu", "loras": {"ink": "/no/such.safetensors"}}
    pool = open_pool(serving(folder, inked=inked))
    with pytest.raises(LoraLoadError, match=r"^Model 'inked': "):
        pool.load("inked")
    pool.close()
