"""The safety checker of a model folder against diffusers' own pipelines with the same one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPAGPipeline, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from pipelines.diffusion.catalog import SAFETY_CHECKER, describe
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.errors import MissingPartError, PickledWeightsError, UnsafePictureError
from pipelines.diffusion.families.model import Model
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.families.whole_call import WholeCall
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import Failure, Output, Request, Result, SamplingParams
from pipelines.diffusion.weights import weights_bytes
from tests.pipelines.diffusion.tiny import deepfloyd_if, safety_checker, stable_diffusion

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

Params = Callable[..., SamplingParams]
Run = Callable[..., list[Output]]

WEIGHTS = f"{SAFETY_CHECKER}/model.safetensors"
SEEDS = range(6)
PIPELINES: dict[str, Callable[..., DiffusionPipeline]] = {
    "native": StableDiffusionPipeline,
    "whole": lambda **parts: StableDiffusionPAGPipeline(**parts, pag_applied_layers=["mid"]),
}


@pytest.fixture(scope="module", params=PIPELINES)
def folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, params: Params
) -> Path:
    """Of a model whose checker refuses what looks rather like seed 0's picture than seed 1's."""
    checker = safety_checker.build_parts()
    parts = stable_diffusion.build_pipeline().components | checker
    pipeline = PIPELINES[request.param](**parts)
    bad, good = (_by_diffusers(pipeline, [params(seed=seed)])[0] for seed in (0, 1))
    safety_checker.refuse_what_is_nearer_to(bad, good, checker)
    path = tmp_path_factory.mktemp(request.param)
    pipeline.save_pretrained(path)
    return path


@pytest.fixture
def native(tmp_path: Path) -> Path:
    """Of a model whose checker refuses everything; to be changed."""
    checker = safety_checker.build_parts()
    safety_checker.refuse_everything(checker)
    parts = stable_diffusion.build_pipeline().components | checker
    StableDiffusionPipeline(**parts).save_pretrained(tmp_path / "native")
    return tmp_path / "native"


def _by_diffusers(pipeline: Any, asked: list[SamplingParams]) -> tuple[torch.Tensor, list[bool]]:
    """The pictures of one call, and which of them were found unsafe."""
    pipeline.set_progress_bar_config(disable=True)
    output = pipeline(
        prompt=[each.prompt for each in asked],
        width=asked[0].width,
        height=asked[0].height,
        num_inference_steps=asked[0].num_inference_steps,
        guidance_scale=asked[0].guidance_scale,
        generator=[torch.Generator("cpu").manual_seed(each.seed) for each in asked],
        output_type="pt",
    )
    return output.images, output.nsfw_content_detected


def _loaded(folder: Path, *without: str) -> Model:
    return load_model(folder, "cpu", "float32", without=without)


def _requests(params: Params) -> list[Request]:
    return [Request(str(seed), params(seed=seed)) for seed in SEEDS]


def _pictures(outputs: list[Output]) -> dict[str, np.ndarray[Any, Any]]:
    return {each.request_id: each.image for each in outputs if isinstance(each, Result)}


@pytest.mark.parametrize("folder", ["native", "whole"], indirect=True)
def test_those_are_refused_that_diffusers_refuses(folder: Path, params: Params, run: Run) -> None:
    pipeline = DiffusionPipeline.from_pretrained(folder)
    _, flags = _by_diffusers(pipeline, [params(seed=seed) for seed in SEEDS])
    assert flags[:2] == [True, False]

    family = _loaded(folder)
    outputs = run(DiffusionEngine(family), *_requests(params))

    failed = [each for each in outputs if isinstance(each, Failure)]
    refused = {str(seed) for seed, flag in zip(SEEDS, flags, strict=True) if flag}
    assert {each.request_id for each in failed} == refused
    assert all(each.unsafe for each in failed)
    assert {each.reason for each in failed} == {str(UnsafePictureError())}

    # Nobody else in the batch notices.
    unchecked = _pictures(run(DiffusionEngine(_loaded(folder, SAFETY_CHECKER)), *_requests(params)))
    assert len(unchecked) == len(SEEDS)
    drawn = _pictures(outputs)
    assert drawn.keys() == unchecked.keys() - refused
    for request in _requests(params):
        if request.id in drawn:
            np.testing.assert_array_equal(drawn[request.id], unchecked[request.id])
            alone = _pictures(run(DiffusionEngine(family), request))[request.id]
            assert np.abs(drawn[request.id].astype(int) - alone).max() <= 1  # rounding


def test_deepfloyd_if(tmp_path: Path, params: Params, run: Run) -> None:
    """Its call judges no tensors, and leaves their colours unscaled.

    Over the pipeline in memory: transformers 5 does not load this checker.
    """
    checker = safety_checker.build_if_parts()
    pipeline = deepfloyd_if.build_pipeline(**checker)
    asked = [params(seed=seed, width=32, height=32, num_inference_steps=2) for seed in range(4)]

    def by_diffusers() -> tuple[torch.Tensor, list[bool], list[bool]]:
        pipeline.set_progress_bar_config(disable=True)
        output = pipeline(
            prompt=[each.prompt for each in asked],
            num_inference_steps=2,
            guidance_scale=asked[0].guidance_scale,
            generator=[torch.Generator("cpu").manual_seed(each.seed) for each in asked],
            output_type="np",
        )
        pictures = torch.from_numpy(output.images.copy()).permute(0, 3, 1, 2)
        return pictures, output.nsfw_detected, output.watermark_detected

    pictures, _, _ = by_diffusers()
    safety_checker.if_finds_as_unsafe(pictures[:1], pictures[1:2], checker)
    safety_checker.if_finds_as_watermarked(pictures[2:3], pictures[1:2], checker)
    pipeline.save_pretrained(tmp_path)
    pictures, unsafe, watermarked = by_diffusers()
    refused = {str(i) for i in range(4) if unsafe[i] or watermarked[i]}
    assert unsafe[:2] == [True, False]
    assert watermarked[1:3] == [False, True]

    requests = [Request(str(i), each) for i, each in enumerate(asked)]
    family = WholeCall(pipeline, describe(tmp_path))
    outputs = run(DiffusionEngine(family), *requests)
    assert {each.request_id for each in outputs if isinstance(each, Failure)} == refused
    assert all(each.unsafe for each in outputs if isinstance(each, Failure))
    drawn = _pictures(outputs)
    assert drawn.keys() == {"0", "1", "2", "3"} - refused
    for name, image in drawn.items():
        theirs = pictures[int(name)].permute(1, 2, 0).mul(255).round().numpy()
        assert np.abs(image - theirs).max() <= 1  # rounding


@pytest.mark.parametrize("folder", ["whole"], indirect=True)
def test_a_checker_that_its_pipeline_does_not_ask_refuses(
    folder: Path, params: Params, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = _loaded(folder)
    assert isinstance(family, WholeCall)
    monkeypatch.setattr(family.pipeline, "run_safety_checker", lambda image, *_: (image, None))
    [failure] = [
        each
        for each in run(DiffusionEngine(family), Request("one", params()))
        if isinstance(each, Failure)
    ]
    assert "does not ask its safety checker; load the model without it" in failure.reason


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_has_the_models_device_and_dtype(folder: Path, dtype: str) -> None:
    family = load_model(folder, "cpu", dtype)
    assert isinstance(family, StableDiffusion | WholeCall)
    checker = family.pipeline.safety_checker
    assert {each.device for each in checker.parameters()} == {family.device}
    assert {each.dtype for each in checker.parameters()} == {family.dtype}


def test_left_out_it_takes_no_memory(folder: Path) -> None:
    family = _loaded(folder, SAFETY_CHECKER)
    assert isinstance(family, StableDiffusion | WholeCall)
    assert family.pipeline.safety_checker is None
    checker = sum(each.nbytes for each in load_file(folder / WEIGHTS).values())
    whole = weights_bytes(folder, torch.float32)
    assert weights_bytes(folder, torch.float32, [SAFETY_CHECKER]) == whole - checker


def test_a_model_without_one_can_be_told_to_leave_it_out(model_folder: Path) -> None:
    assert not describe(model_folder).has_safety_checker
    assert isinstance(_loaded(model_folder, SAFETY_CHECKER), StableDiffusion)


def test_a_model_that_draws_what_it_refuses_is_warm_all_the_same(native: Path) -> None:
    DiffusionEngine(_loaded(native), max_batch=2).warm_up()


def test_as_it_was_published(native: Path, params: Params, run: Run) -> None:
    """Weights and classes by the names of transformers 4."""
    tensors = {}
    for name, tensor in load_file(native / WEIGHTS).items():
        tensors[name.replace("vision_model.", "vision_model.vision_model.", 1)] = tensor
    tensors["vision_model.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(tensors, native / WEIGHTS, metadata={"format": "pt"})
    change_index(native, feature_extractor=["transformers", "CLIPFeatureExtractor"])
    original = _loaded(native)
    assert isinstance(original, StableDiffusion)
    told = original.pipeline.safety_checker.state_dict()
    for name, tensor in safety_checker.build_parts()["safety_checker"].state_dict().items():
        if "weights" not in name:
            torch.testing.assert_close(told[name], tensor)
    [failure] = [
        each
        for each in run(DiffusionEngine(original), Request("one", params()))
        if isinstance(each, Failure)
    ]
    assert failure.unsafe


def change_index(folder: Path, **parts: list[str | None]) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / SAFETY_CHECKER / "pytorch_model.bin")


def gone(folder: Path) -> None:
    shutil.rmtree(folder / SAFETY_CHECKER)


def blind(folder: Path) -> None:
    change_index(folder, feature_extractor=[None, None])


@pytest.mark.parametrize(
    ("broken", "error", "told"),
    [
        (pickled, PickledWeightsError, r"safety_checker' has only pickled weights.*convert"),
        (gone, MissingPartError, r"safety_checker' is missing; copy"),
        (blind, MissingPartError, r"no feature extractor for it to see with; download"),
    ],
)
def test_one_that_cannot_be_used_is_told(
    native: Path,
    params: Params,
    run: Run,
    broken: Callable[[Path], None],
    error: type[Exception],
    told: str,
) -> None:
    """Unless it is left out."""
    broken(native)
    with pytest.raises(error, match=told):
        _loaded(native)
    outputs = run(DiffusionEngine(_loaded(native, SAFETY_CHECKER)), Request("one", params()))
    assert isinstance(outputs[-1], Result)
