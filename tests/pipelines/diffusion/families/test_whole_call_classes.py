"""Each class of the table draws as its own call does, by a tiny random model of it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from pipelines.diffusion.catalog import ModelDescription, describe
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.errors import RequestError, UnsupportedFamilyError
from pipelines.diffusion.families.registry import WHOLE_CALLS, native_classes
from pipelines.diffusion.families.whole_call import WholeCall
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.parts import parts_of
from pipelines.diffusion.plain_request import plain_params
from pipelines.diffusion.request import Failure, Output, Request, Result, SamplingParams
from tests.pipelines.diffusion.families.kept_pictures import keep_pictures
from tests.pipelines.diffusion.tiny import (
    aura_flow,
    bria,
    chroma,
    cogview3,
    cogview4,
    deepfloyd_if,
    flux2,
    hidream,
    hunyuan_dit,
    kandinsky,
    kandinsky5,
    kolors,
    krea2,
    lumina2,
    ovis_image,
    perturbed_attention,
    pixart_alpha,
    pixart_sigma,
    qwen_image,
    sana,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

TOLERANCE = 1e-4  # of colours from 0 to 1

BUILDERS: dict[str, Callable[[], DiffusionPipeline]] = {
    "AuraFlowPipeline": aura_flow.build_pipeline,
    "BriaPipeline": bria.build_pipeline,
    "ChromaPipeline": chroma.build_pipeline,
    "CogView3PlusPipeline": cogview3.build_pipeline,
    "CogView4Pipeline": cogview4.build_pipeline,
    "Flux2KleinPipeline": flux2.build_klein,
    "HiDreamImagePipeline": hidream.build_pipeline,
    "HunyuanDiTPipeline": hunyuan_dit.build_pipeline,
    "IFPipeline": deepfloyd_if.build_pipeline,
    "Kandinsky3Pipeline": kandinsky.build_3,
    "Kandinsky5T2IPipeline": kandinsky5.build_pipeline,
    "KandinskyV22CombinedPipeline": kandinsky.build_2_2,
    "KolorsPipeline": kolors.build_pipeline,
    "Krea2Pipeline": krea2.build_pipeline,
    "Lumina2Pipeline": lumina2.build_pipeline,
    "OvisImagePipeline": ovis_image.build_pipeline,
    "PixArtAlphaPipeline": pixart_alpha.build_pipeline,
    "PixArtSigmaPipeline": pixart_sigma.build_pipeline,
    "QwenImagePipeline": qwen_image.build_pipeline,
    "SanaPipeline": sana.build_pipeline,
    "SanaSprintPipeline": sana.build_sprint,
    "StableDiffusionPAGPipeline": perturbed_attention.build_pipeline,
}

Run = Callable[..., list[Output]]


def size(model: ModelDescription) -> tuple[int, int]:
    """Small and not square, where the model has such a size: a mistaken side would show."""
    if model.sizes or model.area:
        return model.default_width, model.default_height
    side = max(64, model.size_multiple)
    if model.default_width <= 256:
        side = model.default_width
    return side + model.size_multiple, side


def asked(model: ModelDescription, prompt: str, seed: int, negative_prompt: str) -> SamplingParams:
    width, height = size(model)
    return SamplingParams(
        prompt=prompt,
        negative_prompt=negative_prompt,
        width=width,
        height=height,
        num_inference_steps=2,
        guidance_scale=3.0,
        seed=seed,
    )


def reference(pipeline: Any, params: SamplingParams) -> Tensor:
    """By arrays, as diffusers gives pictures to people."""
    takes = inspect.signature(pipeline.__call__).parameters
    entry = WHOLE_CALLS[type(pipeline).__name__]
    options: dict[str, Any] = {entry.guidance: params.guidance_scale}
    if "negative_prompt" in takes and (params.negative_prompt or "true_cfg_scale" in takes):
        options["negative_prompt"] = params.negative_prompt
    output = pipeline(
        prompt=params.prompt,
        width=params.width,
        height=params.height,
        num_inference_steps=params.num_inference_steps,
        generator=torch.Generator("cpu").manual_seed(params.seed),
        output_type="np",
        **options,
    )
    images = output.images if hasattr(output, "images") else output.image
    return torch.from_numpy(images).permute(0, 3, 1, 2)


@pytest.fixture(scope="module", params=WHOLE_CALLS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    BUILDERS[request.param]().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def loaded(folder: Path) -> WholeCall:
    family = load_model(folder, device="cpu", dtype="float32")
    assert isinstance(family, WholeCall)
    return family


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    """Loaded by diffusers alone."""
    theirs = DiffusionPipeline.from_pretrained(folder)
    theirs.set_progress_bar_config(disable=True)
    return theirs


@pytest.mark.parametrize("negative_prompt", ["", "blue"])
def test_two_requests_as_each_alone(
    loaded: WholeCall,
    pipeline: Any,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    negative_prompt: str,
) -> None:
    """In one call, or in one each where their rows would depend on each other."""
    drawn = keep_pictures(monkeypatch)
    model = loaded.description
    both = [
        asked(model, "a red fox", 1, negative_prompt),
        asked(model, "a much longer prompt than the other one", 2, negative_prompt),
    ]
    engine = DiffusionEngine(loaded)
    outputs = run(engine, *(Request(str(i), each) for i, each in enumerate(both)))
    assert [type(each) for each in outputs if not hasattr(each, "steps")] == [Result, Result]
    calls = 2 if WHOLE_CALLS[model.class_name].alone else 1
    assert engine.stats().steps == calls * 3  # two of the noise scheduler, one of the decoder
    for ours, params in zip(drawn, both, strict=True):
        theirs = reference(pipeline, params)
        assert theirs.std() > 0.01
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


def test_a_plain_request_can_be_drawn(loaded: WholeCall) -> None:
    """As warm-up draws one: within the model's sizes and steps."""
    params = plain_params(loaded.description, guidance_scale=5.0)
    assert loaded.admit("one", params).params == params


def test_every_class_is_one_of_diffusers() -> None:
    assert BUILDERS.keys() == WHOLE_CALLS.keys()
    assert not WHOLE_CALLS.keys() & set(native_classes())
    for name in WHOLE_CALLS:
        assert issubclass(getattr(diffusers, name), DiffusionPipeline)


def save(builder: Callable[[], DiffusionPipeline], path: Path) -> ModelDescription:
    builder().save_pretrained(path)
    return describe(path)


def test_steps_that_the_model_fixes(tmp_path: Path, run: Run) -> None:
    model = save(sana.build_sprint, tmp_path)
    assert model.fixed_steps == 2
    assert plain_params(model, guidance_scale=1.0).num_inference_steps == 2
    params = plain_params(model, guidance_scale=1.0)
    four = SamplingParams(
        prompt="a fox",
        width=params.width,
        height=params.height,
        num_inference_steps=4,
        guidance_scale=1.0,
        seed=1,
    )
    outputs = run(DiffusionEngine(load_model(tmp_path, device="cpu")), Request("four", four))
    (failure,) = outputs
    assert isinstance(failure, Failure)
    assert "num_inference_steps must be from 2 to 2" in failure.reason


def test_sizes_that_the_pipeline_would_change(tmp_path: Path) -> None:
    """HiDream brings all to one area; the tiny one to that of 256x256 pixels."""
    model = save(hidream.build_pipeline, tmp_path)
    assert (model.area, model.default_width) == (256, 256)
    for width, height in ((256, 256), (312, 208), (128, 512)):
        model.check_size(width, height)
    with pytest.raises(RequestError, match="sizes of about 256x256 pixels, and would draw 256x256"):
        model.check_size(64, 64)


def test_sizes_from_a_list(tmp_path: Path) -> None:
    model = save(kandinsky5.build_pipeline, tmp_path)
    model.check_size(640, 1408)
    with pytest.raises(RequestError, match=r"takes 1024x1024, 640x1408, .*896"):
        model.check_size(512, 512)


def test_a_picture_of_another_size_is_not_delivered(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Lumina 2 makes of sizes whose half its VAE does not divide."""
    save(pixart_alpha.build_pipeline, tmp_path)
    family = load_model(tmp_path, device="cpu")
    assert isinstance(family, WholeCall)
    decode = family.pipeline.vae.decode
    monkeypatch.setattr(
        family.pipeline.vae,
        "decode",
        lambda latents, **options: decode(latents[:, :, :16], **options),
    )
    monkeypatch.setattr(
        family.pipeline.image_processor, "resize_and_crop_tensor", lambda image, *_: image
    )
    outputs = run(
        DiffusionEngine(family),
        Request("one", asked(family.description, "a fox", 1, "")),
    )
    assert isinstance(outputs[-1], Failure)
    assert "drew 256x128 pixels for 272x256; ask" in outputs[-1].reason


def test_arguments_in_the_index_are_no_parts(tmp_path: Path) -> None:
    """Numbers, booleans, and a list of numbers, as Krea 2 has them."""
    save(krea2.build_pipeline, tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["text_encoder_select_layers"] == [0, 1, 2]
    assert index["is_distilled"] is False
    names = {part.folder.name for part in parts_of(tmp_path)}
    assert names == {"scheduler", "vae", "text_encoder", "tokenizer", "transformer"}


@pytest.mark.parametrize(
    ("class_name", "does"),
    [
        ("SomeOtherPipeline", "is not served"),
        ("UNet2DConditionModel", "is not served"),
        ("GlmImagePipeline", "is not served"),
        ("WanPipeline", "makes videos"),
        ("LTXPipeline", "makes videos"),
        ("CogVideoXPipeline", "makes videos"),
        ("Kandinsky5T2VPipeline", "makes videos"),
        ("LattePipeline", "makes videos"),
        ("AudioLDM2Pipeline", "makes sounds"),
        (
            "KandinskyV22PriorPipeline",
            "draws no pictures, but what another pipeline draws them from",
        ),
        ("StableCascadePriorPipeline", "draws no pictures, but what another"),
        ("StableDiffusionUpscalePipeline", "draws from a picture"),
        ("StableDiffusionControlNetPipeline", "draws from a picture"),
        ("FluxKontextPipeline", "draws from a picture"),
        ("QwenImageEditPipeline", "draws from a picture"),
    ],
)
def test_what_the_table_does_not_hold_is_refused_by_name(
    tmp_path: Path, class_name: str, does: str
) -> None:
    """Before anything else is read."""
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": class_name}))
    told = f"names '{class_name}', which {does}.*; choose a text-to-image model of StableDiff.*Sana"
    with pytest.raises(UnsupportedFamilyError, match=told):
        describe(tmp_path)
    with pytest.raises(UnsupportedFamilyError, match=told):
        load_model(tmp_path, device="cpu")


def test_no_more_positions_than_the_denoiser_knows(tmp_path: Path) -> None:
    """AuraFlow's configuration counts all positions of a square; others count a side's."""
    aura_flow.build_pipeline().save_pretrained(tmp_path)
    description = describe(tmp_path)
    assert description.max_side == 16 * 2 * description.vae_scale_factor
    with pytest.raises(RequestError, match=f"up to {description.max_side} pixels a side"):
        description.check_size(description.max_side, 2 * description.max_side)
