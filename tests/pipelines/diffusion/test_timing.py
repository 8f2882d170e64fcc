"""When a request reached each stage, by a clock that moves only where the model works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.families.whole_call import WholeCall
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.pool import ModelPool, ModelSource, Placing
from pipelines.diffusion.request import Output, Request, Result, SamplingParams, Timing
from pipelines.diffusion.runner import EngineRunner
from pipelines.diffusion.speed.acceleration import Acceleration, Use
from pipelines.diffusion.trajectory import Trajectory
from tests.pipelines.diffusion.test_engine import SlowDecoder
from tests.pipelines.diffusion.tiny import pixart_alpha

Params = Callable[..., SamplingParams]
Run = Callable[..., list[Output]]

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

ENCODE_S, STEP_S, DECODE_S = 3.0, 10.0, 7.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(
    family: StableDiffusion, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> DiffusionEngine:
    """Of a model that takes so long to encode, for a step, and to decode."""
    encode, denoise, decode = family.encode, family.denoise, family.decode

    def slow_encode(params: SamplingParams) -> Any:
        clock.now += ENCODE_S
        return encode(params)

    def slow_denoise(batch: Sequence[Trajectory]) -> Any:
        clock.now += STEP_S
        return denoise(batch)

    def slow_decode(latents: torch.Tensor) -> torch.Tensor:
        clock.now += DECODE_S
        return decode(latents)

    monkeypatch.setattr(family, "encode", slow_encode)
    monkeypatch.setattr(family, "denoise", slow_denoise)
    monkeypatch.setattr(family, "decode", slow_decode)
    return DiffusionEngine(family, clock=clock)


def timings(outputs: list[Output]) -> dict[str, Timing]:
    return {each.request_id: each.timing for each in outputs if isinstance(each, Result)}


def test_one_picture(timed: DiffusionEngine, params: Params, clock: Clock, run: Run) -> None:
    timed.add(Request("one", params(num_inference_steps=4)))
    clock.now += 5.0
    outputs = run(timed)
    assert timings(outputs)["one"] == Timing(
        joined=1000.0,
        loaded=1000.0,
        begun=1005.0,
        encoded=1008.0,
        denoised=1048.0,
        decoded=1055.0,
        steps=4,
        batch=1.0,
    )
    (result,) = [each for each in outputs if isinstance(each, Result)]
    assert result.seconds == 50.0, "from its beginning, not from its joining"


def test_the_mean_of_the_batches_that_it_shared(
    timed: DiffusionEngine, params: Params, clock: Clock, run: Run
) -> None:
    timed.add(Request("long", params(num_inference_steps=4)))
    timed.step()
    timed.add(Request("short", params(num_inference_steps=2)))
    drawn = timings(run(timed))
    assert (drawn["long"].steps, drawn["long"].batch) == (4, (1 + 2 + 2 + 1) / 4)
    assert (drawn["short"].steps, drawn["short"].batch) == (2, 2.0)
    assert drawn["short"].begun == drawn["short"].joined == 1000.0 + ENCODE_S + STEP_S


def test_decoded_beside_the_steps(
    family: StableDiffusion, timed: DiffusionEngine, params: Params, clock: Clock, run: Run
) -> None:
    family.acceleration = Acceleration(decode_stream=Use.ALWAYS)
    timed._decoder = SlowDecoder()
    timed.add(Request("short", params(num_inference_steps=1)))
    timed.add(Request("long", params(num_inference_steps=3)))
    short = timings(run(timed))["short"]
    assert short.denoised == 1000.0 + 2 * ENCODE_S + STEP_S
    assert short.decoded == short.denoised + DECODE_S + 2 * STEP_S + DECODE_S, "when it was taken"


def test_a_model_that_is_awaited(family: StableDiffusion, params: Params, clock: Clock) -> None:
    loads = 0

    def read() -> Placing:
        nonlocal loads
        loads += 1
        return place()

    def place() -> Placing:
        yield
        clock.now += 60.0
        return family

    models = ModelPool({"tiny": ModelSource(read, 1)})
    engine = DiffusionEngine(models, clock=clock)
    outputs = list(engine.generate([Request("first", params())]))
    outputs += engine.generate([Request("second", params())])
    drawn = timings(outputs)
    assert loads == 1
    assert (drawn["first"].joined, drawn["first"].loaded) == (1000.0, 1060.0)
    assert drawn["second"].loaded == drawn["second"].joined == 1060.0


def test_who_waits_for_the_thread_has_joined(
    timed: DiffusionEngine, params: Params, clock: Clock
) -> None:
    """The engine's thread takes requests between two steps; a step may take long."""
    outputs: list[Output] = []
    runner = EngineRunner(timed, outputs.extend)
    runner.submit(Request("one", params()))
    clock.now += 20.0
    runner.start()
    runner.stop(drain=True, timeout=60)
    timing = timings(outputs)["one"]
    assert timing.joined == 1000.0
    assert timing.begun >= 1020.0


@pytest.fixture(scope="module")
def whole_call(tmp_path_factory: pytest.TempPathFactory) -> WholeCall:
    folder: Path = tmp_path_factory.mktemp("whole")
    pixart_alpha.build_pipeline().save_pretrained(folder)
    family = load_model(folder, device="cpu", dtype="float32")
    assert isinstance(family, WholeCall)
    return family


@pytest.mark.parametrize("tells_steps", [True, False])
def test_a_whole_call(
    whole_call: WholeCall,
    params: Params,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    tells_steps: bool,
) -> None:
    if not tells_steps:
        known = whole_call._parameters
        silent = {name: each for name, each in known.items() if "callback" not in name}
        monkeypatch.setattr(whole_call, "_parameters", silent)
    engine = DiffusionEngine(whole_call, clock=clock)
    size = whole_call.description.default_width
    wanted = params(width=size, height=size, num_inference_steps=3)
    for name in ("one", "other"):
        engine.add(Request(name, wanted))
    clock.now += 5.0
    advance = whole_call.advance

    def slow(callers: Any) -> Any:
        clock.now += STEP_S
        return advance(callers)

    monkeypatch.setattr(whole_call, "advance", slow)
    outputs: list[Output] = []
    while engine.has_work:
        outputs += engine.step()
    timing = timings(outputs)["one"]
    assert (timing.joined, timing.begun, timing.encoded) == (1000.0, 1005.0, 1005.0)
    assert timing.steps == (3 if tells_steps else 0)
    assert timing.denoised == (1035.0 if tells_steps else 1015.0)
    assert timing.decoded == (1045.0 if tells_steps else 1015.0)
    assert timing.batch == 2.0
