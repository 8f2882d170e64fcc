"""All that computes does so in the engine's thread, models that load beside a batch included."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.latent import LatentFamily
from pipelines.diffusion.loading import read_model
from pipelines.diffusion.pool import ModelPool, ModelSource, Placing
from pipelines.diffusion.request import LoraScale, Request, Result, SamplingParams
from pipelines.diffusion.runner import EngineRunner
from pipelines.diffusion.speed.accelerate import repeated_blocks
from tests.pipelines.diffusion.lora.lora_files import attention, matrices, save_peft
from tests.pipelines.diffusion.tiny.stable_diffusion import build_pipeline

Params = Callable[..., SamplingParams]


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
    assert isinstance(family, LatentFamily)
    for block in repeated_blocks(family.denoiser):
        block.compile(backend="eager", dynamic=False)
    family.batch_buckets = (1, 2)
    return family


def pictures(outputs: list[Any]) -> dict[str, np.ndarray[Any, Any]]:
    return {each.request_id: each.image for each in outputs if isinstance(each, Result)}


@pytest.mark.model
@pytest.mark.usefixtures("compiler")
def test_a_model_loads_beside_eight_requests_with_loras(pool: ModelPool, params: Params) -> None:
    """Each comes out as alone, and their steps go on between the slices of the other's loading."""
    engine = DiffusionEngine(pool)
    engine.warm_up()
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
    alone: dict[str, np.ndarray[Any, Any]] = {}
    for each in asked:
        alone |= pictures(list(engine.generate([each])))
    assert np.abs(alone["1"].astype(int) - pictures_without_lora(engine, asked[1])).max() > 8

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
    together = pictures(outputs)
    assert loaded_after is not None
    assert 5 < loaded_after < 60
    assert together.keys() == {*alone, "other"}
    for name, picture in alone.items():
        np.testing.assert_allclose(together[name], picture, atol=1)
    while engine.tune():  # compiles the second, now that there is no work
        pass
    for each in asked[:2]:
        picture = pictures(list(engine.generate([each])))[each.id]
        np.testing.assert_allclose(picture, alone[each.id], atol=1)


def pictures_without_lora(engine: DiffusionEngine, request: Request) -> np.ndarray[Any, Any]:
    params = request.params
    plain = SamplingParams(
        **{name: getattr(params, name) for name in params.__slots__ if name != "loras"}
    )
    return pictures(list(engine.generate([Request("plain", plain)])))["plain"].astype(int)


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
