"""A replica's models are loaded as they are configured."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from pipelines.diffusion.catalog import SAFETY_CHECKER
from pipelines.diffusion.errors import (
    LoraLoadError,
    MissingPartError,
    ModelNotFoundError,
    PickledWeightsError,
)
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.speed.acceleration import Use
from pipelines.diffusion.weights import weights_bytes
from serve.deployments.pool import hidden_previews, open_pool
from serve.settings import (
    FurtherModelSettings,
    ModelSettings,
    ModerationSettings,
    Settings,
    SpeedSettings,
)
from tests.pipelines.diffusion.tiny import safety_checker
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


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a safety checker."""
    folder = tmp_path_factory.mktemp("checked")
    parts = build_pipeline().components | safety_checker.build_parts()
    StableDiffusionPipeline(**parts).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("wanted", [True, False])
def test_a_safety_checker_is_loaded_unless_it_is_switched_off(checked: Path, wanted: bool) -> None:
    settings = serving(checked).model_copy(
        update={"moderation": ModerationSettings(safety_checker=wanted)}
    )
    pool = open_pool(settings)
    family = pool.load("first")
    assert isinstance(family, StableDiffusion)
    assert (family.pipeline.safety_checker is not None) is wanted
    pool.close()


def test_what_is_switched_off_need_not_be_there(checked: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(checked, tmp_path / "copy"))
    weights = copy / SAFETY_CHECKER / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(PickledWeightsError, match=r"^Model 'first': .*safety_checker' has only"):
        open_pool(serving(copy))
    off = ModerationSettings(safety_checker=False)
    open_pool(serving(copy).model_copy(update={"moderation": off})).close()


def test_a_checker_that_is_switched_off_takes_none_of_the_budget(
    folder: Path, checked: Path
) -> None:
    """Both models fit if neither brings a checker."""
    budget = 2 * weights_bytes(folder, torch.float32)
    loaded = []
    for wanted in (True, False):
        second = {"path": str(checked), "device": "cpu"}
        settings = serving(folder, model_bytes=budget, second=second).model_copy(
            update={"moderation": ModerationSettings(safety_checker=wanted)}
        )
        pool = open_pool(settings)
        for name in ("first", "second"):
            pool.load(name)
        loaded.append(pool.loaded)
        pool.close()
    assert loaded == [["second"], ["first", "second"]]


@pytest.mark.parametrize(
    ("moderation", "hidden"),
    [
        ({}, {"checked"}),
        ({"safety_checker": False}, set()),
        ({"unjudged_previews": True}, set()),
        ({"classifier": "a:B"}, {"first", "checked"}),
        ({"classifier": "a:B", "safety_checker": False}, {"first", "checked"}),
        ({"classifier": "a:B", "unjudged_previews": True}, set()),
        ({"blocklist": "words.txt"}, {"checked"}),  # it judges prompts alone
    ],
)
def test_previews_are_hidden_where_pictures_are_judged(
    folder: Path, checked: Path, moderation: dict[str, object], hidden: set[str]
) -> None:
    settings = serving(folder, checked={"path": str(checked)}).model_copy(
        update={"moderation": ModerationSettings.model_validate(moderation)}
    )
    assert hidden_previews(settings) == hidden


def test_a_folder_that_is_not_there_is_told_at_once(folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"^Model 'lost': There is no model folder '/no/s"):
        open_pool(serving(folder, lost={"path": "/no/such"}))


def test_a_folder_without_weights_is_told_at_once(folder: Path, tmp_path: Path) -> None:
    build_pipeline().save_pretrained(tmp_path)
    for file in (tmp_path / "unet").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(MissingPartError, match=r"^Model 'bare': "):
        open_pool(serving(folder, bare={"path": str(tmp_path)}))


def test_a_lora_that_is_not_there_is_told_at_once(folder: Path) -> None:
    inked = {"path": str(folder), "device": "cpu", "loras": {"ink": "/no/such.safetensors"}}
    with pytest.raises(LoraLoadError, match=r"^Model 'inked': There is no LoRA file"):
        open_pool(serving(folder, inked=inked))


def test_a_lora_of_another_model_is_told_with_its_model(folder: Path, tmp_path: Path) -> None:
    save_file({}, tmp_path / "ink.safetensors")
    inked = {
        "path": str(folder),
        "device": "cpu",
        "loras": {"ink": str(tmp_path / "ink.safetensors")},
    }
    pool = open_pool(serving(folder, inked=inked))
    with pytest.raises(LoraLoadError, match=r"^Model 'inked': "):
        pool.load("inked")
    pool.close()
