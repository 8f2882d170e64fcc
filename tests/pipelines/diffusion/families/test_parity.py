"""The reference is diffusers' own pipeline: same request, same picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import StableDiffusionPipeline

from pipelines import embedded
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import NoiseScheduler, Output, Request, Result, SamplingParams
from tests.pipelines.diffusion.conftest import load_plain
from tests.pipelines.diffusion.reference import draw_by
from tests.pipelines.diffusion.tiny.stable_diffusion import build_pipeline

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

TOLERANCE = 1e-4  # of colours from 0 to 1, and of latents

EMBEDDED = Path(embedded.__file__).parent / "model"

Params = Callable[..., SamplingParams]
Run = Callable[..., list[Output]]

# Written out once more, so that a wrong entry in our own table shows.
REFERENCE: dict[NoiseScheduler, tuple[str, dict[str, Any]]] = {
    NoiseScheduler.DEFAULT: ("DDIMScheduler", {}),
    NoiseScheduler.DDIM: ("DDIMScheduler", {}),
    NoiseScheduler.EULER: ("EulerDiscreteScheduler", {}),
    NoiseScheduler.EULER_ANCESTRAL: ("EulerAncestralDiscreteScheduler", {}),
    NoiseScheduler.DPMPP_2M: ("DPMSolverMultistepScheduler", {}),
    NoiseScheduler.DPMPP_2M_KARRAS: ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    NoiseScheduler.UNIPC: ("UniPCMultistepScheduler", {}),
    NoiseScheduler.LCM: ("LCMScheduler", {}),
}


def reference(
    family: StableDiffusion, asked: SamplingParams, scheduler: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents and picture by diffusers' pipeline over the same weights."""
    pipeline = StableDiffusionPipeline(
        **family.pipeline.components | {"scheduler": scheduler}, requires_safety_checker=False
    )
    return draw_by(
        pipeline,
        asked,
        negative_prompt=asked.negative_prompt,
        guidance_scale=asked.guidance_scale,
    )


def spy_latents(family: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    decode = family.decode

    def keep(latents: torch.Tensor) -> torch.Tensor:
        seen.append(latents)
        return decode(latents)

    monkeypatch.setattr(family, "decode", keep)
    return seen


@pytest.mark.parametrize("scheduler", REFERENCE)
@pytest.mark.parametrize(
    ("guidance_scale", "negative_prompt"), [(1.0, ""), (5.0, ""), (7.5, "blue")]
)
def test_same_as_diffusers(
    family: StableDiffusion,
    params: Params,
    run: Run,
    pictures: list[torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    scheduler: NoiseScheduler,
    guidance_scale: float,
    negative_prompt: str,
) -> None:
    asked = params(
        guidance_scale=guidance_scale,
        negative_prompt=negative_prompt,
        scheduler=scheduler,
        num_inference_steps=6,
        seed=42,
    )
    latents = spy_latents(family, monkeypatch)
    outputs = run(DiffusionEngine(family), Request("alone", asked))

    class_name, overrides = REFERENCE[scheduler]
    theirs = getattr(diffusers, class_name).from_config(
        family.pipeline.scheduler.config, **overrides
    )
    their_latents, their_picture = reference(family, asked, theirs)
    torch.testing.assert_close(latents[0], their_latents, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(pictures[0], their_picture, atol=TOLERANCE, rtol=0)

    image = outputs[-1]
    assert isinstance(image, Result)
    rounded = their_picture[0].permute(1, 2, 0).mul(255).round().to(torch.uint8)
    assert (torch.from_numpy(image.image).int() - rounded.int()).abs().max() <= 1


@pytest.mark.parametrize("scheduler", REFERENCE)
def test_same_as_diffusers_for_v_prediction(
    family: StableDiffusion,
    params: Params,
    run: Run,
    pictures: list[torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    scheduler: NoiseScheduler,
) -> None:
    """As Stable Diffusion 2.x and the embedded model are trained."""
    default = diffusers.DDIMScheduler.from_config(
        family.pipeline.scheduler.config,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    asked = params(num_inference_steps=7, scheduler=scheduler)
    class_name, overrides = REFERENCE[scheduler]
    theirs = getattr(diffusers, class_name).from_config(default.config, **overrides)
    _, picture = reference(family, asked, theirs)
    monkeypatch.setattr(family.pipeline, "scheduler", default)
    run(DiffusionEngine(family), Request("alone", asked, preview_every=1))
    torch.testing.assert_close(pictures[0], picture, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("class_name", "options"),
    [
        ("HeunDiscreteScheduler", {}),
        ("KDPM2AncestralDiscreteScheduler", {}),
        ("PNDMScheduler", {"skip_prk_steps": True}),
        ("DPMSolverSinglestepScheduler", {}),
        ("EulerDiscreteScheduler", {"prediction_type": "v_prediction"}),
        ("DDIMScheduler", {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ],
)
def test_any_default_scheduler(
    family: StableDiffusion,
    params: Params,
    run: Run,
    pictures: list[torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    class_name: str,
    options: dict[str, Any],
) -> None:
    """Those that evaluate the model twice a step, keep a history or draw noise of their own."""
    default = getattr(diffusers, class_name).from_config(
        family.pipeline.scheduler.config, **options
    )
    asked = params(num_inference_steps=5)
    _, theirs = reference(family, asked, default)
    monkeypatch.setattr(family.pipeline, "scheduler", default)
    outputs = run(DiffusionEngine(family), Request("alone", asked))
    torch.testing.assert_close(pictures[0], theirs, atol=TOLERANCE, rtol=0)
    steps = [output.step for output in outputs if not isinstance(output, Result)]  # type: ignore[union-attr]
    assert steps == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("width", "height"), [(8, 8), (72, 40), (88, 136)])
def test_sizes_that_the_unet_cannot_halve(
    family: StableDiffusion,
    params: Params,
    run: Run,
    pictures: list[torch.Tensor],
    width: int,
    height: int,
) -> None:
    asked = params(width=width, height=height, num_inference_steps=2)
    run(DiffusionEngine(family), Request("odd", asked))
    _, theirs = reference(family, asked, family.pipeline.scheduler)
    assert pictures[0].shape == (1, 3, height, width)
    torch.testing.assert_close(pictures[0], theirs, atol=TOLERANCE, rtol=0)


def test_guidance_by_embedding(
    build: Callable[..., StableDiffusion], params: Params, run: Run
) -> None:
    """Models that were distilled for guidance take the scale as an input, a row each."""
    family = build(time_cond_proj_dim=8)
    asked = [params(guidance_scale=scale) for scale in (1.0, 4.0, 9.0)]
    engine = DiffusionEngine(family)
    outputs = run(engine, *(Request(str(i), each) for i, each in enumerate(asked)))
    assert engine.stats().steps == 4
    results = {output.request_id: output for output in outputs if isinstance(output, Result)}
    for i, each in enumerate(asked):
        _, theirs = reference(family, each, family.pipeline.scheduler)
        rounded = theirs[0].permute(1, 2, 0).mul(255).round().int()
        assert (torch.from_numpy(results[str(i)].image).int() - rounded).abs().max() <= 1


def test_a_latent_consistency_pipeline(tmp_path: Path, params: Params, run: Run) -> None:
    """The same parts under another class, which always takes the scale as an input."""
    parts = build_pipeline(time_cond_proj_dim=8).components
    parts["scheduler"] = diffusers.LCMScheduler.from_config(parts["scheduler"].config)
    pipeline = diffusers.LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(tmp_path)
    asked = params(guidance_scale=8.5)
    outputs = run(DiffusionEngine(load_model(tmp_path, device="cpu")), Request("lcm", asked))
    theirs = pipeline(
        prompt=asked.prompt,
        width=asked.width,
        height=asked.height,
        num_inference_steps=asked.num_inference_steps,
        guidance_scale=asked.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(asked.seed),
        output_type="pt",
    ).images
    result = outputs[-1]
    assert isinstance(result, Result)
    rounded = theirs[0].permute(1, 2, 0).mul(255).round().int()
    assert (torch.from_numpy(result.image).int() - rounded).abs().max() <= 1


def test_long_prompts_are_cut(
    family: StableDiffusion, params: Params, run: Run, pictures: list[torch.Tensor]
) -> None:
    asked = params(prompt="a very long prompt " * 20, negative_prompt="blue " * 50)
    run(DiffusionEngine(family), Request("long", asked))
    _, theirs = reference(family, asked, family.pipeline.scheduler)
    torch.testing.assert_close(pictures[0], theirs, atol=TOLERANCE, rtol=0)


@pytest.mark.model
@pytest.mark.skipif(not EMBEDDED.is_dir(), reason="the embedded model is not trained yet")
def test_the_embedded_model(params: Params, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one, in one mixed batch: every noise scheduler, guided or not."""
    loaded = load_plain(EMBEDDED)
    size = loaded.description.default_width, loaded.description.default_height
    requests = {
        str(scheduler): params(
            prompt="a red heart",
            width=size[0],
            height=size[1],
            num_inference_steps=4 + i,
            guidance_scale=1.0 if i == 2 else 3.0 + i,
            seed=i,
            scheduler=scheduler,
        )
        for i, scheduler in enumerate(REFERENCE)
    }
    latents = spy_latents(loaded, monkeypatch)
    outputs = run(
        DiffusionEngine(loaded), *(Request(id_, asked) for id_, asked in requests.items())
    )
    finished = [output.request_id for output in outputs if isinstance(output, Result)]
    assert len(finished) == len(requests)
    for id_, asked in requests.items():
        default = loaded.pipeline.scheduler
        class_name, overrides = REFERENCE[asked.scheduler]
        if asked.scheduler is NoiseScheduler.DEFAULT:
            class_name = type(default).__name__
        theirs = getattr(diffusers, class_name).from_config(default.config, **overrides)
        _, picture = reference(loaded, asked, theirs)
        ours = loaded.decode(latents[finished.index(id_)])
        torch.testing.assert_close(ours, picture, atol=TOLERANCE, rtol=0)
