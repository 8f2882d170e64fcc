"""All that computes does so in the engine's thread, models that load beside a batch included."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.loading import read_model
from pipelines.diffusion.pool import ModelPool, ModelSource, Placing
from pipelines.diffusion.request import LoraScale, Request, Result, SamplingParams
from pipelines.diffusion.runner import EngineRunner
from pipelines.diffusion.speed.accelerate import repeated_blocks
from tests.pipelines.diffusion.families.kept_pictures import keep_pictures
from tests.pipelines.diffusion.lora.lora_files import attention, matrices, save_peft
from tests.pipelines.diffusion.tiny.stable_diffusion import build_pipeline

Params = Callable[..., SamplingParams]

TOLERANCE = 1e-4  # of colours from 0 to 1


@pytest.fixture
def compiler() -> Iterator[None]:
    """Leaves the process as it was."""
    yield
    torch._dynamo.reset()
    torch.compiler.set_stance("default")


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return save_peft(tmp_path / "ink.safetensors", matrices(build_pipeline(), 1, take=attention))


@pytest.fixture
def pool(model_folder: Path, lora: Path) -> Iterator[ModelPool]:
    """Two models whose blocks are compiled, for two batch buckets."""
    pool = ModelPool(
        {
            "first": ModelSource(
                lambda: compiled(read_model(model_folder, loras={"ink": lora})), 1
            ),
            "second": ModelSource(lambda: compiled(read_model(model_folder)), 1),
        }
    )
    yield pool
    pool.close()


def compiled(placing: Placing) -> Placing:
    family = yield from placing
    assert isinstance(family, Family)
    for block in repeated_blocks(family.denoiser):
        block.compile(backend="eager", dynamic=False)
    family.batch_buckets = (1, 2)
    return family


def drawn(outputs: list[Any], kept: list[Tensor]) -> dict[str, Tensor]:
    """The pictures of (1, 3, height, width) by their requests; ``kept`` is empty afterwards."""
    names = [each.request_id for each in outputs if isinstance(each, Result)]
    pictures = dict(zip(names, kept, strict=True))
    kept.clear()
    return pictures


@pytest.mark.model
@pytest.mark.usefixtures("compiler")
def test_a_model_loads_beside_eight_requests_with_loras(
    pool: ModelPool, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each comes out as alone, and their steps go on between the slices of the other's loading."""
    engine = DiffusionEngine(pool)
    engine.warm_up()
    kept = keep_pictures(monkeypatch)
    asked = [
        Request(
            str(i),
            params(
                seed=i,
                num_inference_steps=60,
                loras=(LoraScale("ink", 0.5 + i / 8),) if i else (),
            ),
        )
        for i in range(8)
    ]
    alone: dict[str, Tensor] = {}
    for each in asked:
        alone |= drawn(list(engine.generate([each])), kept)
    plain = drawn(list(engine.generate([without_loras(asked[1])])), kept)["1"]
    assert (alone["1"] - plain).abs().max() > 0.03

    loaded_after = None
    engine.reset_stats()
    for each in asked:
        engine.add(each)
    engine.add(Request("other", params(), model="second"))
    outputs = []
    while engine.has_work:
        outputs += engine.step()
        if loaded_after is None and "second" in pool.loaded:
            loaded_after = engine.stats().steps
    together = drawn(outputs, kept)
    assert loaded_after is not None
    assert 5 < loaded_after < 60
    assert together.keys() == {*alone, "other"}
    for name, picture in alone.items():
        torch.testing.assert_close(together[name], picture, atol=TOLERANCE, rtol=0)
    while engine.tune():  # compiles the second, now that there is no work
        pass
    for each in asked[:2]:
        picture = drawn(list(engine.generate([each])), kept)[each.id]
        torch.testing.assert_close(picture, alone[each.id], atol=TOLERANCE, rtol=0)


def without_loras(request: Request) -> Request:
    return replace(request, params=replace(request.params, loras=()))


def test_no_other_thread_computes(model_folder: Path, lora: Path, params: Params) -> None:
    """Two models, previews, LoRAs and all: every module is called by the engine's thread."""
    callers: set[str] = set()

    def note(_module: nn.Module, _inputs: Any) -> None:
        callers.add(threading.current_thread().name)

    done = threading.Event()
    finished: set[str] = set()

    def take(outputs: list[Any]) -> None:
        finished.update(each.request_id for each in outputs if isinstance(each, Result))
        if finished == {"a", "b"}:
            done.set()

    hook = register_module_forward_pre_hook(note)
    sources = {
        "first": ModelSource(lambda: read_model(model_folder, loras={"ink": lora}), 1),
        "second": ModelSource(lambda: read_model(model_folder), 1),
    }
    runner = EngineRunner(DiffusionEngine(ModelPool(sources)), take)
    runner.start()
    runner.wait_until_warm()
    runner.submit(Request("a", params(loras=(LoraScale("ink"),)), preview_every=1))
    runner.submit(Request("b", params(), model="second", preview_every=1))
    assert done.wait(30)
    runner.stop(drain=True, timeout=30)
    hook.remove()
    assert callers == {"diffusion-engine"}
