from __future__ import annotations

import gc
import threading
import traceback
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from pipelines.diffusion.decoder import Decoder
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.errors import ModelLoadError, UnsafePictureError, WarmUpError
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.noise_schedulers import noise_schedulers
from pipelines.diffusion.pool import ModelPool, ModelSource, placed
from pipelines.diffusion.request import (
    EngineStats,
    Expired,
    Failure,
    NoiseScheduler,
    Output,
    Progress,
    Request,
    Result,
    SamplingParams,
)
from pipelines.diffusion.speed.acceleration import Acceleration, Use
from pipelines.diffusion.speed.device_memory import DeviceMemory
from pipelines.diffusion.trajectory import Trajectory
from pipelines.diffusion.warm_up import choose_threads

Params = Callable[..., SamplingParams]
Run = Callable[..., list[Output]]

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

TOLERANCE = 1e-4  # of colours from 0 to 1


def results(outputs: list[Output]) -> dict[str, Result]:
    return {output.request_id: output for output in outputs if isinstance(output, Result)}


def failures(outputs: list[Output]) -> dict[str, str]:
    return {output.request_id: output.reason for output in outputs if isinstance(output, Failure)}


def test_one_picture(family: StableDiffusion, params: Params, run: Run) -> None:
    engine = DiffusionEngine(family)
    outputs = run(engine, Request("one", params()))
    assert outputs[:4] == [Progress("one", step, 4) for step in (1, 2, 3, 4)]
    assert len(outputs) == 5
    result = outputs[-1]
    assert isinstance(result, Result)
    assert result.image.shape == (64, 64, 3)
    assert result.image.dtype == np.uint8
    assert result.seconds > 0
    assert engine.stats().finished == 1
    assert not engine.has_work


def mixed_requests(params: Params) -> list[Request]:
    """Twelve that differ in all that may differ within a lane, and two sizes."""
    schedulers = noise_schedulers(DDIMScheduler().config)
    return [
        Request(
            f"r{i}",
            params(
                prompt=f"picture {'abcdefghijkl'[i]}",
                negative_prompt="blue" if i % 3 == 0 else "",
                num_inference_steps=2 + i % 5,
                guidance_scale=1.0 if i % 4 == 3 else 2.0 + i,
                seed=100 + i,
                scheduler=schedulers[i % len(schedulers)],
                width=96 if i >= 10 else 64,
            ),
        )
        for i in range(12)
    ]


def test_twelve_at_once_equal_each_alone(
    family: StableDiffusion, params: Params, run: Run, pictures: list[torch.Tensor]
) -> None:
    requests = mixed_requests(params)
    alone = []
    for request in requests:
        run(DiffusionEngine(family), request)
        alone.append(pictures.pop())

    engine = DiffusionEngine(family, max_batch=12)
    outputs: list[Output] = []
    for request in requests:  # one joins before each step
        engine.add(request)
        outputs += engine.step()
    outputs += run(engine)

    stats = engine.stats()
    assert stats.finished == 12
    assert stats.request_steps == sum(request.params.num_inference_steps for request in requests)
    assert stats.request_steps / stats.steps > 1.5
    order = list(results(outputs))
    for request, expected in zip(requests, alone, strict=True):
        got = pictures[order.index(request.id)]
        torch.testing.assert_close(got, expected, atol=TOLERANCE, rtol=0)


def test_waiting_requests_join_as_others_leave(
    family: StableDiffusion, params: Params, run: Run
) -> None:
    engine = DiffusionEngine(family, max_batch=2)
    for i in range(5):
        engine.add(Request(str(i), params(num_inference_steps=3)))
    engine.step()
    stats = engine.stats()
    assert (stats.active, stats.waiting) == (2, 3)
    assert engine.free_slots == 0
    assert len(results(run(engine))) == 5
    assert engine.free_slots == 2
    assert engine.stats().request_steps == 15
    assert engine.stats().steps <= 9


def test_abort_leaves_the_others_untouched(
    family: StableDiffusion, params: Params, run: Run, pictures: list[torch.Tensor]
) -> None:
    stays = Request("stays", params(num_inference_steps=6, seed=5))
    run(DiffusionEngine(family), stays)
    alone = pictures.pop()

    engine = DiffusionEngine(family)
    engine.add(Request("leaves", params(num_inference_steps=6, seed=6)))
    engine.add(stays)
    engine.step()
    engine.step()
    assert engine.abort("leaves")
    assert not engine.abort("leaves")
    outputs = run(engine)
    assert {output.request_id for output in outputs} == {"stays"}
    torch.testing.assert_close(pictures[0], alone, atol=TOLERANCE, rtol=0)
    stats = engine.stats()
    assert (stats.aborted, stats.finished, stats.steps, stats.request_steps) == (1, 1, 6, 8)


def test_aborted_while_waiting(family: StableDiffusion, params: Params, run: Run) -> None:
    engine = DiffusionEngine(family, max_batch=1)
    engine.add(Request("first", params()))
    engine.add(Request("second", params()))
    engine.step()
    assert engine.abort("second")
    assert set(results(run(engine))) == {"first"}


def test_an_identifier_is_in_once(family: StableDiffusion, params: Params) -> None:
    engine = DiffusionEngine(family)
    engine.add(Request("same", params()))
    with pytest.raises(ValueError, match="'same' is in the engine already"):
        engine.add(Request("same", params()))


def test_previews(family: StableDiffusion, params: Params, run: Run) -> None:
    request = Request("one", params(num_inference_steps=6, width=96), preview_every=2)
    outputs = run(DiffusionEngine(family), request)
    shown = {
        output.step: output.preview
        for output in outputs
        if isinstance(output, Progress) and output.preview is not None
    }
    assert list(shown) == [2, 4]
    for preview in shown.values():
        assert preview.shape == (16, 24, 3)
        assert preview.dtype == np.uint8


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": 60}, "multiples of 8"),
        ({"height": 0}, "multiples of 8"),
        ({"num_inference_steps": 0}, "must be from 1 to"),
        ({"scheduler": NoiseScheduler.LCM, "num_inference_steps": 60}, "must be from 1 to 50"),
        ({"seed": 2**70}, "Error"),
    ],
)
def test_a_request_that_cannot_be_drawn_fails_alone(
    family: StableDiffusion, params: Params, run: Run, changes: dict[str, Any], reason: str
) -> None:
    engine = DiffusionEngine(family)
    outputs = run(engine, Request("good", params()), Request("bad", params(**changes)))
    assert list(failures(outputs)) == ["bad"]
    assert reason in failures(outputs)["bad"]
    assert set(results(outputs)) == {"good"}
    assert engine.stats().failed == 1


def poisoned(family: StableDiffusion, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request of that seed starts from latents that are no numbers."""
    prepare = family.prepare

    def prepare_poisoned(params: SamplingParams, conditioning: Any) -> Trajectory:
        trajectory = prepare(params, conditioning)
        if params.seed == seed:
            trajectory.latents = torch.full_like(trajectory.latents, torch.nan)
        return trajectory

    monkeypatch.setattr(family, "prepare", prepare_poisoned)


def test_nan_fails_alone(
    family: StableDiffusion, params: Params, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = results(run(DiffusionEngine(family), Request("good", params())))["good"]
    poisoned(family, 13, monkeypatch)
    engine = DiffusionEngine(family)
    outputs = run(engine, Request("bad", params(seed=13)), Request("good", params()))
    assert "not a number" in failures(outputs)["bad"]
    np.testing.assert_allclose(
        results(outputs)["good"].image.astype(int), alone.image.astype(int), atol=1
    )


def failing_forward(
    family: StableDiffusion, seed: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shared forward pass raises while the request of that seed is in it."""
    denoise = family.denoise

    def denoise_or_raise(trajectories: Sequence[Trajectory]) -> list[torch.Tensor]:
        if any(row.generator.initial_seed() == seed for row in trajectories):
            raise error("injected")
        return denoise(trajectories)

    monkeypatch.setattr(family, "denoise", denoise_or_raise)


@pytest.mark.parametrize("error", [RuntimeError, KeyError])
def test_the_forward_pass_fails_only_the_guilty(
    family: StableDiffusion,
    params: Params,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    failing_forward(family, 13, error, monkeypatch)
    engine = DiffusionEngine(family)
    outputs = run(engine, *(Request(str(seed), params(seed=seed)) for seed in range(10, 16)))
    assert list(failures(outputs)) == ["13"]
    assert "injected" in failures(outputs)["13"]
    assert set(results(outputs)) == {"10", "11", "12", "14", "15"}
    assert engine.max_batch == 8


def test_decoding_fails_alone(
    family: StableDiffusion,
    params: Params,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decode, calls = family.decode, iter((True, False))

    def decode_or_raise(latents: torch.Tensor) -> torch.Tensor:
        if next(calls):
            raise RuntimeError("injected")
        return decode(latents)

    monkeypatch.setattr(family, "decode", decode_or_raise)
    outputs = run(DiffusionEngine(family), Request("bad", params()), Request("good", params()))
    assert failures(outputs) == {"bad": "RuntimeError: injected"}
    (error,) = [each.error for each in outputs if isinstance(each, Failure)]
    assert error is not None
    assert "in decode_or_raise" in "".join(traceback.format_exception(error))
    assert set(results(outputs)) == {"good"}


def test_out_of_memory_halves_the_batch(
    family: StableDiffusion, params: Params, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoise = family.denoise

    def small_device(trajectories: Sequence[Trajectory]) -> list[torch.Tensor]:
        if len(trajectories) > 3:
            raise torch.OutOfMemoryError
        return denoise(trajectories)

    monkeypatch.setattr(family, "denoise", small_device)
    engine = DiffusionEngine(family, max_batch=8)
    outputs = run(engine, *(Request(str(i), params()) for i in range(8)))
    assert len(results(outputs)) == 8
    assert engine.stats().failed == 0
    for i in range(8):
        engine.add(Request(str(i), params()))
    before = engine.stats().request_steps
    engine.step()
    assert engine.stats().request_steps - before == 2


def test_a_broken_device_is_nobodys_fault(
    family: StableDiffusion, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_forward(family, 1, torch.AcceleratorError, monkeypatch)
    engine = DiffusionEngine(family)
    engine.add(Request("one", params()))
    with pytest.raises(torch.AcceleratorError):
        engine.step()


def test_the_safety_checker_refuses(
    family: StableDiffusion, params: Params, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        family.pipeline, "run_safety_checker", lambda picture, *_: (picture, [True])
    )
    outputs = run(DiffusionEngine(family), Request("one", params()))
    assert outputs[-1] == Failure("one", str(UnsafePictureError()), unsafe=True)


def test_warm_up(family: StableDiffusion, params: Params) -> None:
    engine = DiffusionEngine(family)
    engine.warm_up()
    assert engine.stats() == EngineStats()
    assert not engine.has_work
    cost = engine.costs["default"]
    assert 0 < cost.predict(params(num_inference_steps=10)) < 60
    assert {rows for _, rows, _ in cost.profile()["denoise"]} == {2, 4, 8, 16}
    assert cost.held_bytes(params()) >= 4 * 16 * 16 * 4


def test_warm_up_of_a_model_that_cannot_draw(
    family: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_forward(family, 0, RuntimeError, monkeypatch)
    with pytest.raises(WarmUpError, match="injected"):
        DiffusionEngine(family).warm_up()


def test_a_step_without_work(family: StableDiffusion) -> None:
    engine = DiffusionEngine(family)
    assert engine.step() == []
    assert engine.stats() == EngineStats()


class MemoryOf(DeviceMemory):
    """A device of so many free bytes, on which every step takes ``peak``."""

    def __init__(self, free: int, peak: int) -> None:
        self._free, self._peak = free, peak

    def free(self) -> int | None:
        return self._free

    def peak_of(self, work: Callable[[], Any]) -> int | None:
        work()
        return self._peak


def test_memory_bounds_a_step(family: StableDiffusion, params: Params) -> None:
    """After the warm-up a step takes no more than fit: here every row needs the same."""
    engine = DiffusionEngine(family, max_batch=4)
    engine.warm_up(MemoryOf(free=10_000_000, peak=9_000_000))
    for i in range(4):
        engine.add(Request(str(i), params()))
    engine.step()
    assert engine.stats().request_steps == 1


@pytest.mark.parametrize(("measured", "requests"), [(True, 1), (False, 4)])
def test_a_step_ends_where_the_device_saturates(
    family: StableDiffusion, params: Params, measured: bool, requests: int
) -> None:
    engine = DiffusionEngine(family)
    for rows in (2, 4, 8, 16):
        engine.costs["default"].observe(64 * 64, rows, float(rows))
    if measured:
        engine._warm_up.measured.add("default")
    for i in range(4):
        engine.add(Request(str(i), params()))
    engine.step()
    assert engine.stats().request_steps == requests


def test_a_deadline_is_kept_at_the_next_step(
    family: StableDiffusion, params: Params, run: Run
) -> None:
    now = [100.0]
    engine = DiffusionEngine(family, clock=lambda: now[0])
    engine.add(Request("late", params(), deadline_s=5))
    engine.add(Request("long", params(), deadline_s=50))
    engine.step()
    now[0] = 105.0
    outputs = run(engine)
    assert outputs[0] == Expired("late")
    assert [output.request_id for output in outputs[1:]] == ["long"] * 4
    assert isinstance(outputs[-1], Result)
    assert (engine.stats().expired, engine.stats().finished) == (1, 1)


class SlowDecoder(Decoder[Any]):
    """As on CUDA, where pictures come steps later; here when ``done``."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[tuple[Any, torch.Tensor]] = []
        self.done = False

    def submit(
        self, key: Any, decode: Callable[[torch.Tensor], torch.Tensor], latents: torch.Tensor
    ) -> None:
        self.pictures.append((key, decode(latents)))

    def ready(self) -> list[tuple[Any, torch.Tensor]]:
        pictures, self.pictures = (self.pictures, []) if self.done else ([], self.pictures)
        return pictures

    def wait(self) -> list[tuple[Any, torch.Tensor]]:
        self.done = True
        return self.ready()


@pytest.fixture
def beside(family: StableDiffusion) -> DiffusionEngine:
    family.acceleration = Acceleration(decode_stream=Use.ALWAYS)
    engine = DiffusionEngine(family)
    engine._decoder = SlowDecoder()
    return engine


def test_steps_go_on_while_pictures_are_decoded(
    family: StableDiffusion, beside: DiffusionEngine, params: Params, run: Run
) -> None:
    beside.add(Request("short", params(num_inference_steps=1)))
    beside.add(Request("gone", params(num_inference_steps=1)))
    beside.add(Request("long", params(num_inference_steps=4)))
    beside.step()
    assert beside.stats().decoding == 2
    assert beside.free_slots == 7
    assert beside.abort("gone")
    assert [output.request_id for output in beside.step()] == ["long"]
    drawn = results(run(beside))
    assert set(drawn) == {"short", "long"}
    family.acceleration = None
    alone = results(run(DiffusionEngine(family), Request("long", params(num_inference_steps=4))))
    np.testing.assert_allclose(drawn["long"].image, alone["long"].image, atol=1)


def test_a_failed_decoding_beside_the_steps_fails_alone(
    family: StableDiffusion,
    beside: DiffusionEngine,
    params: Params,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        family.pipeline, "run_safety_checker", lambda picture, *_: (picture, [True])
    )
    beside.add(Request("one", params()))
    assert run(beside)[-1] == Failure("one", str(UnsafePictureError()), unsafe=True)


def pool_of(family: StableDiffusion, **models: Callable[[], Family]) -> ModelPool:
    sources = {
        name: ModelSource(lambda load=load: placed(load()), 1)  # type: ignore[misc]
        for name, load in models.items()
    }
    return ModelPool({"first": ModelSource(lambda: placed(family), 1), **sources}, max_bytes=1)


def test_models_take_turns(
    family: StableDiffusion, build: Callable[..., StableDiffusion], params: Params, run: Run
) -> None:
    """Two that do not fit at once: who came first goes on, who comes later waits its turn."""
    other = build(block_out_channels=(16, 32))
    expected = results(run(DiffusionEngine(other), Request("b", params())))["b"]
    engine = DiffusionEngine(pool_of(family, second=lambda: other))
    engine.add(Request("a", params()))
    while engine.stats().steps == 0:
        engine.step()
    engine.add(Request("b", params(), model="second"))
    engine.add(Request("c", params()))
    drawn = results(run(engine))
    assert list(drawn) == ["a", "b", "c"]
    np.testing.assert_array_equal(drawn["b"].image, expected.image)
    assert engine.models.loaded == ["first"]
    engine.close()


def test_a_model_that_cannot_be_loaded(family: StableDiffusion, params: Params, run: Run) -> None:
    def broken() -> Family:
        raise ModelLoadError("The folder is empty; copy the model again.")

    engine = DiffusionEngine(pool_of(family, second=broken))
    requests = [Request("bad", params(), model="second"), Request("good", params())]
    outputs = run(engine, *requests, Request("odd", params(), model="third"))
    assert "copy the model again" in failures(outputs)["bad"]
    assert "choose one of first, second" in failures(outputs)["odd"]
    assert list(results(outputs)) == ["good"]
    engine.close()


def test_abort_while_the_model_loads(family: StableDiffusion, params: Params, run: Run) -> None:
    may_load = threading.Event()

    def slow() -> Family:
        may_load.wait(10)
        return family

    engine = DiffusionEngine(ModelPool({"slow": ModelSource(lambda: placed(slow()), 1)}))
    engine.add(Request("gone", params()))
    engine.add(Request("stays", params()))
    assert engine.step() == []
    assert engine.stats().waiting == 2
    assert engine.abort("gone")
    may_load.set()
    assert list(results(run(engine))) == ["stays"]
    engine.close()


def test_a_model_distilled_for_guidance_takes_one_row(
    build: Callable[..., StableDiffusion], params: Params, run: Run
) -> None:
    engine = DiffusionEngine(build(time_cond_proj_dim=8))
    run(engine, Request("one", params(guidance_scale=5.0)))
    assert engine.costs["default"].guided_rows == 1


def out_of_memory_once(times: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, which finds no memory the first ``times``."""
    left = times

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if left:
            left -= 1
            raise torch.OutOfMemoryError("no memory")
        return call(*args, **kwargs)

    return failing


@pytest.mark.parametrize("part", ["encode", "prepare"])
def test_without_memory_for_its_beginning_a_request_waits_for_another(
    family: StableDiffusion,
    params: Params,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    engine = DiffusionEngine(family)
    engine.add(Request("first", params(num_inference_steps=3)))
    engine.step()
    monkeypatch.setattr(family, part, out_of_memory_once(1, getattr(family, part)))
    outputs = run(engine, Request("second", params(prompt="an owl", num_inference_steps=2)))
    assert list(results(outputs)) == ["first", "second"]
    assert engine.stats().steps == 5, "the second began when the first had left"


def test_a_drawn_picture_without_memory_for_its_decoding_is_not_lost(
    family: StableDiffusion, params: Params, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = results(
        run(DiffusionEngine(family), Request("short", params(num_inference_steps=1)))
    )
    monkeypatch.setattr(family, "decode", out_of_memory_once(1, family.decode))
    requests = [Request("short", params(num_inference_steps=1)), Request("long", params())]
    drawn = results(run(DiffusionEngine(family), *requests))
    assert list(drawn) == ["long", "short"], "decoded when the other had left"
    np.testing.assert_allclose(drawn["short"].image, expected["short"].image, atol=1)


def test_alone_and_without_memory_it_fails_with_a_sentence(
    family: StableDiffusion, params: Params, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("encode", "decode"):
        with monkeypatch.context() as patch:
            patch.setattr(family, part, out_of_memory_once(1, getattr(family, part)))
            outputs = run(DiffusionEngine(family), Request("one", params()))
        assert "ask for a smaller one" in failures(outputs)["one"]


def test_a_vae_that_finds_no_memory_decodes_in_tiles(
    family: StableDiffusion, params: Params, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = family.vae.model
    tiled: list[bool] = []
    decode_tiled = vae.tiled_decode

    def decode_in_tiles(*args: Any, **kwargs: Any) -> Any:
        tiled.append(True)
        return decode_tiled(*args, **kwargs)

    monkeypatch.setattr(vae, "decode", out_of_memory_once(9, vae.decode))
    monkeypatch.setattr(vae, "tiled_decode", decode_in_tiles)
    assert list(results(run(DiffusionEngine(family), Request("one", params())))) == ["one"]
    assert tiled == [True]


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_vae_whose_output_is_not_finite_fails_the_request(
    family: StableDiffusion,
    params: Params,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
) -> None:
    decode = family.vae.model.decode

    def broken(*args: Any, **kwargs: Any) -> tuple[torch.Tensor]:
        picture = decode(*args, **kwargs)[0].clone()
        picture[0, 0, 3, 5] = value
        return (picture,)

    monkeypatch.setattr(family.vae.model, "decode", broken)
    outputs = run(DiffusionEngine(family), Request("one", params()))
    assert "not a number" in failures(outputs)["one"]


def test_a_vae_that_only_decodes_draws_without_previews(
    family: StableDiffusion, params: Params, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = family.vae.model.encode

    def broken(*args: Any, **kwargs: Any) -> Any:
        output = encode(*args, **kwargs)
        output.latent_dist.mean = output.latent_dist.mean * torch.nan
        return output

    monkeypatch.setattr(family.vae.model, "encode", broken)
    blind = StableDiffusion(family.pipeline, family.description)
    outputs = run(DiffusionEngine(blind), Request("one", params(), preview_every=1))
    assert all(each.preview is None for each in outputs if isinstance(each, Progress))
    assert list(results(outputs)) == ["one"]


def test_a_picture_of_another_size_than_was_asked_is_not_delivered(
    family: StableDiffusion, params: Params, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = family.decode
    monkeypatch.setattr(family, "decode", lambda latents: decode(latents)[..., :32])
    outputs = run(DiffusionEngine(family), Request("one", params()))
    assert "drew 32x64 pixels for 64x64" in failures(outputs)["one"]


def test_a_model_that_loads_later_is_warmed_and_bounds_memory_anew(
    family: StableDiffusion, params: Params, run: Run
) -> None:
    pool = ModelPool({name: ModelSource(lambda: placed(family), 0) for name in ("first", "second")})
    engine = DiffusionEngine(pool, max_batch=4)
    memory = MemoryOf(free=10_000_000, peak=100)
    engine.warm_up(memory)
    assert engine._warm_up.measured == {"first"}
    memory._free = 20_000_000
    run(engine, Request("one", params(), model="second"))
    assert engine._warm_up.measured == {"first", "second"}
    assert engine.costs["second"].profile()["denoise"]
    assert engine._step_memory == 16_000_000
    engine.close()


@pytest.mark.parametrize(
    ("seconds", "threads"),
    [
        ({1: (1.0, 4.0), 2: (0.7, 2.2), 4: (0.5, 1.2)}, 4),
        ({1: (1.0, 4.0), 2: (0.7, 2.2), 4: (0.69, 2.1)}, 2),
        ({1: (1.0, 4.0), 2: (0.97, 3.05), 4: (0.97, 3.05)}, 1),
        ({1: (1.0, 4.0), 2: (1.4, 3.9), 4: (2.0, 5.0)}, 1),
    ],
    ids=["all pay", "half pays", "two hardware threads of a core", "the machine is busy"],
)
def test_as_many_threads_as_pay(
    family: StableDiffusion,
    monkeypatch: pytest.MonkeyPatch,
    seconds: dict[int, tuple[float, float]],
    threads: int,
) -> None:
    now, set_to = 0.0, 0
    denoise = family.denoise

    def set_threads(number: int) -> None:
        nonlocal set_to
        set_to = number

    def take_time(trajectories: Sequence[Trajectory]) -> list[torch.Tensor]:
        nonlocal now
        now += seconds[set_to][len(trajectories) > 1]
        return denoise(trajectories)

    monkeypatch.setattr(family, "denoise", take_time)
    monkeypatch.setattr(torch, "set_num_threads", set_threads)
    with torch.inference_mode():
        assert choose_threads(family, max_batch=4, most=4, clock=lambda: now) == threads
    assert set_to == threads


def test_threads_are_chosen_by_steps_of_about_a_second(
    family: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for a thousand requests a start would take minutes else."""
    now, sizes = 0.0, set()

    def take_time(trajectories: Sequence[Trajectory]) -> list[torch.Tensor]:
        nonlocal now
        now += 0.1 * len(trajectories)
        sizes.add(len(trajectories))
        return [torch.zeros(1) for _ in trajectories]

    monkeypatch.setattr(family, "denoise", take_time)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    with torch.inference_mode():
        choose_threads(family, max_batch=64, most=2, clock=lambda: now)
    assert max(sizes) == 16


def test_the_tuning_of_a_model_that_leaves_does_not_keep_it(
    family: StableDiffusion, build: Callable[..., StableDiffusion], params: Params, run: Run
) -> None:
    other = build(block_out_channels=(16, 32))
    gone = weakref.ref(other)
    families = [other]
    del other
    pool = pool_of(family, second=families.pop)
    engine = DiffusionEngine(pool)
    run(engine, Request("a", params(), model="second"))
    assert set(engine._warm_up._tuning) == {"second"}
    run(engine, Request("b", params()))
    assert pool.loaded == ["first"]
    gc.collect()
    assert gone() is None
    engine.close()


def test_a_step_says_what_it_takes_before_it_is_made(
    family: StableDiffusion, params: Params, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks from outside tells by it a slow step from one that hangs."""
    engine = DiffusionEngine(family, max_batch=4)
    engine.warm_up()
    engine._warm_up.measured.clear()  # a step takes all four, wherever this machine saturates
    denoise, seen = family.denoise, []

    def look(batch: Sequence[Trajectory]) -> Any:
        seen.append((engine.first_of_kind, engine.expected_step))
        return denoise(batch)

    monkeypatch.setattr(family, "denoise", look)
    default = family.description.default_width
    known = params(width=default, height=default, num_inference_steps=3)
    cost = engine.costs["default"]
    for size, rows in ((1, 2), (4, 8)):
        requests = [Request(f"{size} {i}", replace(known, seed=i)) for i in range(size)]
        step = cost.seconds_per_step(default**2, rows)
        run(engine, *requests)
        assert not any(first for first, _ in seen)
        begins, goes_on, ends = [seconds for _, seconds in seen]
        assert 0 < goes_on <= 3 * step
        assert begins > goes_on, "prompts are read"
        assert ends > goes_on, "pictures are decoded"
        seen.clear()
    assert engine.expected_step == 0, "none is made"

    larger = params(width=2 * default, height=2 * default, num_inference_steps=3)
    run(engine, Request("larger", larger))
    assert [first for first, _ in seen] == [True, False, True], "its first step, its first decoding"
    assert all(seconds > 0 for _, seconds in seen)
    seen.clear()
    run(
        engine, Request("again", larger), Request("one step", replace(known, num_inference_steps=1))
    )
    assert not any(first for first, _ in seen)


def test_what_was_never_made_before_is_no_measure_of_later_steps(
    family: StableDiffusion, params: Params, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    engine = DiffusionEngine(family, max_batch=4, clock=lambda: now)
    engine.warm_up()
    denoise = family.denoise
    seconds = iter([300.0, 2.0, 1.0, 1.0])

    def slow(batch: Sequence[Trajectory]) -> Any:
        nonlocal now
        now += next(seconds)
        return denoise(batch)

    monkeypatch.setattr(family, "denoise", slow)
    size = 2 * family.description.default_width
    run(engine, Request("one", params(width=size, height=size, num_inference_steps=4)))
    assert engine.longest_step == 2.0
