"""Pipelines without a family of their own against their own calls."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.errors import UnsafePictureError
from pipelines.diffusion.families.shared_call import Turn
from pipelines.diffusion.families.whole_call import WholeCall
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import (
    Failure,
    NoiseScheduler,
    Output,
    Progress,
    Request,
    Result,
    SamplingParams,
)
from tests.pipelines.diffusion.families.kept_pictures import keep_pictures
from tests.pipelines.diffusion.tiny import perturbed_attention, pixart_alpha

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

TOLERANCE = 1e-4  # of colours from 0 to 1

Params = Callable[..., SamplingParams]
Run = Callable[..., list[Output]]


BUILDERS: dict[str, Callable[[], DiffusionPipeline]] = {
    "pixart": pixart_alpha.build_pipeline,
    "perturbed": perturbed_attention.build_pipeline,
}


@pytest.fixture(scope="module", params=BUILDERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    BUILDERS[request.param]().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def loaded(folder: Path) -> WholeCall:
    family = load_model(folder, device="cpu", dtype="float32")
    assert isinstance(family, WholeCall)
    return family


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    return keep_pictures(monkeypatch)


@pytest.fixture
def asked(loaded: WholeCall, params: Params) -> Params:
    side = loaded.description.default_width

    def ask(**overrides: Any) -> SamplingParams:
        return params(**{"width": side, "height": side} | overrides)

    return ask


def reference(folder: Path, asked: SamplingParams) -> Tensor:
    """The picture of the pipeline's own call, loaded anew."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    if asked.scheduler is NoiseScheduler.EULER:
        pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    options = {"negative_prompt": asked.negative_prompt} if asked.negative_prompt else {}
    picture: Tensor = pipeline(
        prompt=asked.prompt,
        width=asked.width,
        height=asked.height,
        num_inference_steps=asked.num_inference_steps,
        guidance_scale=asked.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(asked.seed),
        output_type="pt",
        **options,
    ).images
    return picture


def finished(outputs: list[Output]) -> list[str]:
    return [output.request_id for output in outputs if isinstance(output, Result)]


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"guidance_scale": 1.0, "num_inference_steps": 3},
        {"negative_prompt": "blue", "scheduler": NoiseScheduler.EULER},
    ],
)
def test_alone_as_its_own_call(
    folder: Path,
    loaded: WholeCall,
    asked: Params,
    run: Run,
    drawn: list[Tensor],
    overrides: dict[str, Any],
) -> None:
    wanted = asked(**overrides)
    outputs = run(DiffusionEngine(loaded), Request("one", wanted))
    steps = wanted.num_inference_steps
    assert outputs[:-1] == [Progress("one", step, steps) for step in range(1, steps + 1)]
    assert finished(outputs) == ["one"]
    torch.testing.assert_close(drawn[0], reference(folder, wanted), atol=TOLERANCE, rtol=0)


def test_all_who_are_there_share_a_call(
    folder: Path, loaded: WholeCall, asked: Params, run: Run, drawn: list[Tensor]
) -> None:
    wanted = [asked(prompt=f"{'much ' * i}more", seed=i) for i in range(3)]
    engine = DiffusionEngine(loaded)
    outputs = run(engine, *(Request(str(i), each) for i, each in enumerate(wanted)))
    assert finished(outputs) == ["0", "1", "2"]
    assert engine.stats().steps == wanted[0].num_inference_steps + 1
    for ours, each in zip(drawn, wanted, strict=True):
        torch.testing.assert_close(ours, reference(folder, each), atol=TOLERANCE, rtol=0)


def test_newcomers_wait_for_the_end_of_the_call(
    folder: Path, loaded: WholeCall, asked: Params, run: Run, drawn: list[Tensor]
) -> None:
    """Of its key and of another; what can share the next call does."""
    wanted = {
        "first": asked(seed=1),
        "second": asked(seed=2),
        "third": asked(seed=3),
        "other": asked(seed=4, num_inference_steps=2),
    }
    engine = DiffusionEngine(loaded)
    engine.add(Request("first", wanted["first"]))
    outputs = engine.step()
    for name in ("second", "third", "other"):
        engine.add(Request(name, wanted[name]))
    outputs += run(engine)
    order = finished(outputs)
    assert order[0] == "first"
    assert abs(order.index("second") - order.index("third")) == 1
    steps = [output for output in outputs if isinstance(output, Progress)]
    assert [each.request_id for each in steps[:4]] == ["first"] * 4
    for name, ours in zip(order, drawn, strict=True):
        theirs = reference(folder, wanted[name])
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


def test_who_leaves_is_not_noticed(
    folder: Path, loaded: WholeCall, asked: Params, run: Run, drawn: list[Tensor]
) -> None:
    stays, goes = asked(seed=1), asked(seed=2)
    engine = DiffusionEngine(loaded)
    engine.add(Request("goes", goes))
    engine.add(Request("stays", stays))
    engine.step()
    assert engine.abort("goes")
    assert finished(run(engine)) == ["stays"]
    torch.testing.assert_close(drawn[0], reference(folder, stays), atol=TOLERANCE, rtol=0)


def test_the_last_to_leave_ends_the_call(
    folder: Path, loaded: WholeCall, asked: Params, run: Run, drawn: list[Tensor]
) -> None:
    """At the step where it stands, without a change of the thread's modes."""
    engine = DiffusionEngine(loaded)
    engine.add(Request("goes", asked(seed=2, num_inference_steps=50)))
    engine.step()
    before, called = torch.is_grad_enabled(), loaded._running
    assert called is not None
    assert engine.abort("goes")
    assert called.over
    assert torch.is_grad_enabled() is before
    wanted = asked(seed=1)
    assert finished(run(engine, Request("next", wanted))) == ["next"]
    torch.testing.assert_close(drawn[0], reference(folder, wanted), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("steps", [0, 2])
def test_one_that_fails_leaves_the_others_their_pictures(
    folder: Path,
    loaded: WholeCall,
    asked: Params,
    run: Run,
    drawn: list[Tensor],
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
) -> None:
    """At once, or in the midst of the call: only alone in one is it found guilty."""
    encode, made = loaded.pipeline.encode_prompt, 0
    denoiser = loaded.pipeline.components.get("unet") or loaded.pipeline.transformer
    forward, poisoned = denoiser.forward, False

    def encode_prompt(prompt: list[str], *args: Any, **options: Any) -> Any:
        nonlocal made, poisoned
        made, poisoned = 0, "poison" in prompt
        return encode(prompt, *args, **options)

    def poisonable(*args: Any, **options: Any) -> Any:
        nonlocal made
        if poisoned and made == steps:
            raise ValueError("that is no prompt")
        made += 1
        return forward(*args, **options)

    monkeypatch.setattr(loaded.pipeline, "encode_prompt", encode_prompt)
    monkeypatch.setattr(denoiser, "forward", poisonable)
    good = [asked(seed=1), asked(seed=2)]
    outputs = run(
        DiffusionEngine(loaded),
        Request("first", good[0]),
        Request("poisoned", asked(prompt="poison")),
        Request("second", good[1]),
    )
    failures = {each.request_id: each.reason for each in outputs if isinstance(each, Failure)}
    assert failures == {"poisoned": "ValueError: that is no prompt"}
    monkeypatch.undo()
    for name, wanted in zip(("first", "second"), good, strict=True):
        assert name in finished(outputs)
        ours = drawn[finished(outputs).index(name)]
        torch.testing.assert_close(ours, reference(folder, wanted), atol=TOLERANCE, rtol=0)


def test_out_of_memory_begins_anew_with_fewer(
    folder: Path,
    loaded: WholeCall,
    asked: Params,
    run: Run,
    drawn: list[Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the middle of a call: no step is told twice, and each starts over from its seed."""
    decode = loaded.pipeline.vae.decode

    def decode_one(latents: Tensor, **options: Any) -> Any:
        if len(latents) > 1:
            raise torch.OutOfMemoryError("too many")
        return decode(latents, **options)

    monkeypatch.setattr(loaded.pipeline.vae, "decode", decode_one)
    wanted = [asked(seed=1), asked(seed=2)]
    outputs = run(
        DiffusionEngine(loaded), *(Request(str(i), each) for i, each in enumerate(wanted))
    )
    monkeypatch.undo()
    assert finished(outputs) == ["0", "1"]
    steps = [each.step for each in outputs if isinstance(each, Progress) and each.request_id == "0"]
    assert steps == [1, 2, 3, 4]
    for ours, each in zip(drawn, wanted, strict=True):
        torch.testing.assert_close(ours, reference(folder, each), atol=TOLERANCE, rtol=0)


def test_a_call_moves_in_the_turn_of_others(folder: Path, loaded: WholeCall, asked: Params) -> None:
    """Else a batcher that prefers who waits for its end would wait forever."""
    wanted = asked(seed=1)
    runs = loaded.admit("runs", wanted)
    waits = loaded.admit("waits", asked(num_inference_steps=2))
    with torch.inference_mode():
        loaded.advance([runs])
        for step in range(2, wanted.num_inference_steps + 1):
            assert loaded.advance([waits]) == [Turn(runs, progressed=True)]
            assert (runs.steps_done, waits.steps_done) == (step, 0)
        (turn,) = loaded.advance([waits])
        runs.leave()
    assert turn.picture is not None
    torch.testing.assert_close(turn.picture, reference(folder, wanted), atol=TOLERANCE, rtol=0)


def test_a_call_that_fails_in_the_turn_of_others_fails_none_of_them(
    loaded: WholeCall, asked: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, waits = loaded.admit("runs", asked()), loaded.admit("waits", asked(seed=2))
    with torch.inference_mode(), monkeypatch.context() as broken:
        loaded.advance([runs])
        broken.setattr(loaded.pipeline.scheduler, "step", None)
        (turn,) = loaded.advance([waits])
    assert turn.caller is runs
    assert isinstance(turn.error, TypeError)
    with torch.inference_mode():
        assert loaded.advance([waits]) == [Turn(waits, progressed=True)]
        waits.leave()


def test_a_pipeline_without_callbacks_is_drawn_in_a_step(
    folder: Path,
    loaded: WholeCall,
    asked: Params,
    run: Run,
    drawn: list[Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = {name: each for name, each in loaded._parameters.items() if "callback" not in name}
    monkeypatch.setattr(loaded, "_parameters", silent)
    wanted = asked(seed=1)
    (output,) = run(DiffusionEngine(loaded), Request("one", wanted))
    assert isinstance(output, Result)
    torch.testing.assert_close(drawn[0], reference(folder, wanted), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("folder", ["perturbed"], indirect=True)
def test_what_the_safety_checker_refuses(
    loaded: WholeCall, asked: Params, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row of two."""
    monkeypatch.setattr(
        loaded.pipeline, "run_safety_checker", lambda image, *_: (image, [False, True])
    )
    outputs = run(DiffusionEngine(loaded), Request("good", asked()), Request("bad", asked()))
    assert finished(outputs) == ["good"]
    assert outputs[-1] == Failure("bad", str(UnsafePictureError()), unsafe=True)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"width": 100}, "takes multiples of"),
        ({"num_inference_steps": 0}, "num_inference_steps must be from"),
        ({"image": np.zeros((64, 64, 3), np.uint8)}, "from text alone here; leave out image"),
        ({"scheduler": NoiseScheduler.FLOW_MATCH_EULER}, "does not fit this model"),
    ],
)
def test_what_cannot_be_drawn(
    loaded: WholeCall, asked: Params, run: Run, overrides: dict[str, Any], told: str
) -> None:
    (output,) = run(DiffusionEngine(loaded), Request("bad", asked(**overrides)))
    assert isinstance(output, Failure)
    assert told in output.reason


def test_a_call_starts_no_thread_and_keeps_the_modes(loaded: WholeCall, asked: Params) -> None:
    """Between the steps, whatever the pipeline has open."""
    engine, threads = DiffusionEngine(loaded), threading.active_count()
    engine.add(Request("one", asked()))
    while engine.has_work:
        engine.step()
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (True, False)
        assert threading.active_count() == threads


def test_a_family_that_is_dropped_in_the_midst_of_a_call_is_freed(
    folder: Path, asked: Params
) -> None:
    family = load_model(folder, device="cpu", dtype="float32")
    engine = DiffusionEngine(family)
    engine.add(Request("one", asked()))
    engine.step()
    gone = weakref.ref(family)
    del engine, family
    gc.collect()
    assert gone() is None


def test_warm_up(loaded: WholeCall) -> None:
    engine = DiffusionEngine(loaded)
    engine.warm_up()
    assert not engine.has_work
