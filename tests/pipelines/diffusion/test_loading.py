from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline

from pipelines.diffusion.catalog import SAFETY_CHECKER
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.errors import (
    ModelLoadError,
    ModelNotFoundError,
    UnsupportedDtypeError,
)
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.loading import choose_device, choose_dtype, load_model
from pipelines.diffusion.request import Output, Request, Result, SamplingParams
from pipelines.diffusion.weights import weights_bytes


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("auto", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_load_and_draw(
    model_folder: Path,
    params: Callable[..., SamplingParams],
    run: Callable[..., list[Output]],
    dtype: str,
    expected: torch.dtype,
) -> None:
    family = load_model(model_folder, device="cpu", dtype=dtype)
    assert family.dtype == expected
    assert family.device == torch.device("cpu")
    outputs = run(DiffusionEngine(family), Request("one", params(), preview_every=1))
    assert isinstance(outputs[-1], Result)


def test_threads(model_folder: Path) -> None:
    before = torch.get_num_threads()
    try:
        load_model(model_folder, device="cpu", threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="There is no model folder"):
        load_model(tmp_path / "nothing")


def test_hub(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def download(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(model_folder)

    monkeypatch.setattr(DiffusionPipeline, "download", download)
    load_model("someone/some-model", device="cpu")
    assert asked == {"name": "someone/some-model", "use_safetensors": True}
    load_model("someone/some-model", device="cpu", without=[SAFETY_CHECKER])
    assert asked["safety_checker"] is None  # which is how diffusers is told to spare it


def test_hub_without_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, **_: object) -> str:
        raise OSError("no such repository")

    monkeypatch.setattr(DiffusionPipeline, "download", download)
    with pytest.raises(ModelNotFoundError, match="neither a folder nor to be had from the hub"):
        load_model("someone/some-model")


def test_choose_device() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ModelLoadError, match="no device 'abacus'"):
        choose_device("abacus")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_no_cuda() -> None:
    with pytest.raises(ModelLoadError, match="No CUDA device"):
        choose_device("cuda")


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_dtype_on_cuda(
    monkeypatch: pytest.MonkeyPatch, native: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: native)
    assert choose_dtype("auto", torch.device("cuda")) == expected


def test_bfloat16_that_the_device_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    cuda = torch.device("cuda")
    with pytest.raises(UnsupportedDtypeError, match=r"Tesla T4 does not .* use dtype 'float16'"):
        choose_dtype("bfloat16", cuda)
    assert choose_dtype("float16", cuda) == torch.float16


def test_unknown_dtype() -> None:
    with pytest.raises(ModelLoadError, match="no dtype 'int3'"):
        choose_dtype("int3", torch.device("cpu"))


def test_weights_bytes(model_folder: Path, shared_family: StableDiffusion) -> None:
    networks = (shared_family.pipeline.components[part] for part in ("unet", "vae", "text_encoder"))
    held = sum(each.nbytes for network in networks for each in network.parameters())
    assert weights_bytes(model_folder, torch.float32) == held
    assert weights_bytes(model_folder, torch.bfloat16) == held // 2
