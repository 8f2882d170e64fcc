from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pipelines.diffusion.errors import ModelLoadError, RequestError
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.pool import ModelPool, ModelSource


def settled(pool: ModelPool, name: str) -> Family | None:
    """What is acquired once all loading is over."""
    first = pool.acquire(name)
    if first is not None:
        return first
    pool.wait(timeout=10)
    return pool.acquire(name)


@pytest.fixture
def source(family: StableDiffusion) -> Callable[[int], ModelSource]:
    def make(nbytes: int) -> ModelSource:
        return ModelSource(lambda: StableDiffusion(family.pipeline, family.description), nbytes)

    return make


def test_a_model_loads_beside_its_caller(family: StableDiffusion) -> None:
    may_load = threading.Event()

    def load() -> Family:
        may_load.wait(10)
        return family

    pool = ModelPool({"slow": ModelSource(load, 1)})
    assert pool.acquire("slow") is None
    assert not pool.full
    may_load.set()
    pool.wait(timeout=10)
    assert pool.acquire("slow") is family
    pool.close()


def test_the_least_recently_used_leaves(source: Callable[[int], ModelSource]) -> None:
    pool = ModelPool({name: source(4) for name in "abc"}, max_bytes=9)
    for name in ("a", "b", "a"):
        assert settled(pool, name) is not None
        pool.release(name)
    assert settled(pool, "c") is not None
    assert pool.loaded == ["a", "c"]
    pool.close()


def test_one_in_use_stays(source: Callable[[int], ModelSource]) -> None:
    pool = ModelPool({name: source(4) for name in "abc"}, max_bytes=9)
    assert settled(pool, "a")
    assert settled(pool, "b")
    assert settled(pool, "c") is None
    assert pool.full
    pool.release("b")  # the more recent one, but the only idle one
    assert settled(pool, "c")
    assert pool.loaded == ["a", "c"]
    pool.close()


def test_one_larger_than_the_room_is_alone(source: Callable[[int], ModelSource]) -> None:
    pool = ModelPool({"small": source(4), "huge": source(99)}, max_bytes=9)
    assert settled(pool, "small")
    assert settled(pool, "huge") is None
    pool.release("small")
    assert settled(pool, "huge")
    assert pool.loaded == ["huge"]
    pool.close()


def test_a_failed_load_is_told_once_and_tried_again(family: StableDiffusion) -> None:
    broken = [True]

    def load() -> Family:
        if broken[0]:
            raise ModelLoadError("The disk was away.")
        return family

    pool = ModelPool({"flaky": ModelSource(load, 1), "fine": ModelSource(lambda: family, 1)})
    assert pool.acquire("flaky") is None
    pool.wait(timeout=10)
    assert settled(pool, "fine") is family  # nobody else hears of it
    with pytest.raises(ModelLoadError, match="disk was away"):
        pool.acquire("flaky")
    broken[0] = False
    assert settled(pool, "flaky") is family
    pool.close()


def test_unknown(family: StableDiffusion) -> None:
    with pytest.raises(RequestError, match="There is no model 'x' here; choose one of default"):
        ModelPool.of(family).acquire("x")
