"""ControlNets: the reference is diffusers' own pipelines with one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from numpy.typing import NDArray

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.errors import (
    MissingPartError,
    ModelIndexError,
    ModelLoadError,
    ModelNotFoundError,
    PickledWeightsError,
)
from pipelines.diffusion.families.unet import UNetFamily
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import (
    ControlImage,
    Failure,
    NoiseScheduler,
    Output,
    Request,
    SamplingParams,
)
from tests.pipelines.diffusion.families.test_neighbours import Neighbour, draw
from tests.pipelines.diffusion.families.test_parity import TOLERANCE
from tests.pipelines.diffusion.families.test_source_pictures import left_half, source
from tests.pipelines.diffusion.families.unet_reference import alone, reference
from tests.pipelines.diffusion.tiny import stable_diffusion, stable_diffusion_xl, z_image
from tests.pipelines.diffusion.tiny.controlnet import build_controlnet

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

Params = Callable[..., SamplingParams]
Run = Callable[..., list[Output]]

KINDS: Mapping[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "sd": (stable_diffusion.build_pipeline, stable_diffusion.UNET),
    "xl": (stable_diffusion_xl.build_pipeline, stable_diffusion_xl.UNET),
    "inpainting": (
        partial(stable_diffusion.build_pipeline, in_channels=9),
        stable_diffusion.UNET,
    ),
}
CONTROLNETS: Mapping[str, dict[str, Any]] = {
    "edges": {},
    "pooled": {"global_pool_conditions": True, "controlnet_conditioning_channel_order": "bgr"},
}


@pytest.fixture(scope="module", params=["sd", "xl"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, UNetFamily]:
    loaded = {}
    for kind, (build, unet) in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        build().save_pretrained(folder)
        controlnets = {}
        for seed, (name, overrides) in enumerate(CONTROLNETS.items()):
            controlnets[name] = folder / "controlnets" / name
            build_controlnet(unet, seed, **overrides).save_pretrained(controlnets[name])
        family = load_model(folder, device="cpu", controlnets=controlnets)
        assert isinstance(family, UNetFamily)
        loaded[kind] = family
    return loaded


def edges(width: int = 64, height: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


def check(family: UNetFamily, asked: SamplingParams, unet: dict[str, Any]) -> None:
    assert asked.control is not None
    seed = list(CONTROLNETS).index(asked.control.controlnet)
    controlnet = build_controlnet(unet, seed, **CONTROLNETS[asked.control.controlnet])
    latents, picture = alone(family, asked)
    their_latents, their_picture = reference(family, asked, controlnet)
    torch.testing.assert_close(latents, their_latents, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(picture, their_picture, atol=TOLERANCE, rtol=0)


TASKS: dict[str, dict[str, Any]] = {
    "text": {},
    "image": {"image": source(), "strength": 0.7},
    "mask": {"image": source(), "mask": left_half(), "strength": 0.7},
    "blank": {"image": source(), "mask": left_half(), "strength": 1.0},
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("scale", "start", "end", "guidance_scale"), [(1.0, 0.0, 1.0, 1.0), (0.6, 0.2, 0.7, 5.0)]
)
def test_same_as_diffusers(
    families: dict[str, UNetFamily],
    params: Params,
    kind: str,
    task: str,
    scale: float,
    start: float,
    end: float,
    guidance_scale: float,
) -> None:
    asked = params(
        control=ControlImage("edges", edges(), scale, start, end),
        num_inference_steps=6,
        guidance_scale=guidance_scale,
        scheduler=NoiseScheduler.EULER_ANCESTRAL,
        **TASKS[task],
    )
    check(families[kind], asked, KINDS[kind][1])


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_pooled_residuals(
    families: dict[str, UNetFamily], params: Params, kind: str, guidance_scale: float
) -> None:
    asked = params(control=ControlImage("pooled", edges()), guidance_scale=guidance_scale)
    check(families[kind], asked, KINDS[kind][1])


def test_many_in_one_batch(families: dict[str, UNetFamily], params: Params, kind: str) -> None:
    """Other ControlNets, weights and steps, and rows without any: each is as if alone."""
    controls = [
        ControlImage("edges", edges(), 1.0),
        ControlImage("pooled", edges(), 0.6),
        None,
        ControlImage("edges", edges(), 0.4, start=0.5),
        ControlImage("pooled", edges(), 0.8, end=0.5),
    ]
    requests = {
        str(i): params(control=control, guidance_scale=(1.0, 5.0)[i % 2], seed=i)
        for i, control in enumerate(controls)
    }
    together = [Neighbour(Request(i, asked), int(i) // 2, None) for i, asked in requests.items()]
    drawn = draw(families[kind], together)
    for i, asked in requests.items():
        expected, _ = alone(families[kind], asked)
        torch.testing.assert_close(drawn[i][0], expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_it_costs_nothing_where_it_does_not_act(
    families: dict[str, UNetFamily], params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    forward = ControlNetModel.forward

    def count(self: Any, sample: torch.Tensor, *args: Any, **options: Any) -> Any:
        rows.append(len(sample))
        return forward(self, sample, *args, **options)

    monkeypatch.setattr(ControlNetModel, "forward", count)
    control = ControlImage("edges", edges(), start=0.5)
    alone(families["sd"], params(control=control, num_inference_steps=4))
    assert rows == [2, 2]


@pytest.mark.parametrize("strength", [0.7, 1.0])
def test_with_a_unet_for_inpainting(
    families: dict[str, UNetFamily], params: Params, strength: float
) -> None:
    asked = params(
        control=ControlImage("edges", edges()),
        image=source(),
        mask=left_half(),
        strength=strength,
        scheduler=NoiseScheduler.EULER_ANCESTRAL,
    )
    check(families["inpainting"], asked, KINDS["inpainting"][1])


def test_it_steers(families: dict[str, UNetFamily], params: Params, kind: str) -> None:
    plain, _ = alone(families[kind], params())
    steered, _ = alone(families[kind], params(control=ControlImage("edges", edges())))
    weightless, _ = alone(families[kind], params(control=ControlImage("edges", edges(), 0.0)))
    assert (steered - plain).abs().max() > 0.05
    assert torch.equal(plain, weightless)


@pytest.mark.parametrize(
    ("control", "told"),
    [
        (
            ControlImage("depth", edges()),
            "no ControlNet 'depth'; this model has 'edges', 'pooled'.",
        ),
        (ControlImage("edges", edges(32)), "The control has 32x64 pixels; resize it"),
        (ControlImage("edges", edges(), start=0.5, end=0.5), "acts from 0.5 to 0.5"),
        (ControlImage("edges", edges(), end=1.5), "acts from 0 to 1.5"),
    ],
)
def test_what_cannot_be_drawn(
    families: dict[str, UNetFamily], params: Params, run: Run, control: ControlImage, told: str
) -> None:
    outputs = run(DiffusionEngine(families["sd"]), Request("bad", params(control=control)))
    assert isinstance(outputs[0], Failure)
    assert told in outputs[0].reason


def test_a_model_without_controlnets(model_folder: Path, params: Params, run: Run) -> None:
    family = load_model(model_folder, device="cpu")
    asked = params(control=ControlImage("edges", edges()))
    outputs = run(DiffusionEngine(family), Request("bad", asked))
    assert isinstance(outputs[0], Failure)
    assert "this model has none, so leave it out" in outputs[0].reason


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"cross_attention_dim": 24}, "cross_attention_dim is 24, not 16; take a ControlNet"),
        ({"block_out_channels": (8, 8)}, r"block_out_channels is \[8, 8\], not"),
        ({"conditioning_embedding_out_channels": (8, 8)}, "pixels to a latent is 2, not 4"),
    ],
)
def test_one_for_another_model(
    model_folder: Path, tmp_path: Path, overrides: dict[str, Any], told: str
) -> None:
    build_controlnet(stable_diffusion.UNET, **overrides).save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match=told):
        load_model(model_folder, device="cpu", controlnets={"bad": tmp_path})


def test_one_of_sdxl_for_stable_diffusion(model_folder: Path, tmp_path: Path) -> None:
    unet = stable_diffusion_xl.UNET | {"cross_attention_dim": 16}
    build_controlnet(unet).save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match="addition_embed_type is text_time, not None"):
        load_model(model_folder, device="cpu", controlnets={"bad": tmp_path})


def test_broken_folders(model_folder: Path, tmp_path: Path) -> None:
    def load(folder: Path) -> None:
        load_model(model_folder, device="cpu", controlnets={"bad": folder})

    with pytest.raises(ModelNotFoundError, match="no ControlNet folder"):
        load(tmp_path / "nothing")
    UNet2DConditionModel(**stable_diffusion.UNET).save_pretrained(tmp_path / "unet")
    with pytest.raises(ModelIndexError, match=r"config.json' names 'UNet2DConditionModel'"):
        load(tmp_path / "unet")

    folder = tmp_path / "controlnet"
    build_controlnet(stable_diffusion.UNET).save_pretrained(folder)
    weights = folder / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    with pytest.raises(ModelLoadError, match=r"controlnet.* copy or download it again"):
        load(folder)
    weights.write_bytes(whole)
    config = json.loads((folder / "config.json").read_text())
    for changed, told in (
        ({"conditioning_channels": 5}, "could not be loaded; copy or download"),
        ({"encoder_hid_dim": 8, "encoder_hid_dim_type": "text_proj"}, "lacks 2 weights that its"),
    ):
        (folder / "config.json").write_text(json.dumps(config | changed))
        with pytest.raises(ModelLoadError, match=f"controlnet' {told}"):
            load(folder)
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(PickledWeightsError, match="controlnet' has only pickled weights"):
        load(folder)
    weights.with_suffix(".bin").unlink()
    with pytest.raises(MissingPartError, match="controlnet' has no"):
        load(folder)


def test_weights_saved_as_a_variant(model_folder: Path, tmp_path: Path) -> None:
    build_controlnet(stable_diffusion.UNET).save_pretrained(tmp_path, variant="fp16")
    family = load_model(model_folder, device="cpu", controlnets={"edges": tmp_path})
    assert isinstance(family, UNetFamily)
    assert family.controlnet_names == ("edges",)


def test_a_family_without_a_unet(tmp_path: Path) -> None:
    z_image.build_pipeline().save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match="has no UNet; leave out ControlNet 'edges'"):
        load_model(tmp_path, device="cpu", controlnets={"edges": tmp_path})
