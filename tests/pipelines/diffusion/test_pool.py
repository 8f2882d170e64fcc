from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from pipelines.diffusion.errors import ModelLoadError, RequestError
from pipelines.diffusion.families.model import Model
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.pool import RETRY_SECONDS, ModelPool, ModelSource, Placing, placed


def settled(pool: ModelPool, name: str) -> Model | None:
    """What is acquired once all loading is over."""
    first = pool.acquire(name)
    if first is not None:
        return first
    if pool.full:
        return None
    pool.load(name)
    return pool.acquire(name)


@pytest.fixture
def source(family: StableDiffusion) -> Callable[[int], ModelSource]:
    def make(nbytes: int) -> ModelSource:
        return ModelSource(
            lambda: placed(StableDiffusion(family.pipeline, family.description)), nbytes
        )

    return make


def test_a_model_is_read_beside_its_caller_who_does_the_rest(family: StableDiffusion) -> None:
    may_read, threads = threading.Event(), []

    def read() -> Placing:
        assert torch.get_num_threads() == 1, "a second OpenMP team would halve the first's speed"
        may_read.wait(10)
        threads.append(threading.current_thread())
        return place()

    def place() -> Placing:
        threads.append(threading.current_thread())
        yield
        threads.append(threading.current_thread())
        return family

    def warm_up(name: str, given: Model) -> Iterator[None]:
        assert (name, given) == ("slow", family)
        yield
        threads.append(threading.current_thread())

    before = torch.get_num_threads()
    pool = ModelPool({"slow": ModelSource(read, 1)})
    assert pool.acquire("slow") is None
    assert not pool.full
    pool.advance(warm_up)
    assert threads == []
    may_read.set()
    pool.wait(timeout=10)
    slices = 0
    while pool.acquire("slow") is None:
        pool.advance(warm_up)
        slices += 1
    assert slices == 3
    reader, *others = threads
    assert reader is not threading.current_thread()
    assert others == [threading.current_thread()] * 3
    assert torch.get_num_threads() == before
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


def test_a_failed_load_is_told_for_a_minute_and_then_tried_again(family: StableDiffusion) -> None:
    now, tries = 0.0, 0

    def read() -> Placing:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ModelLoadError("The disk was away.")
        return placed(family)

    sources = {"flaky": ModelSource(read, 1), "fine": ModelSource(lambda: placed(family), 1)}
    pool = ModelPool(sources, clock=lambda: now)
    for _ in range(3):
        with pytest.raises(ModelLoadError, match="disk was away"):
            pool.load("flaky")
    assert settled(pool, "fine") is family  # nobody else hears of it
    assert tries == 1
    now = RETRY_SECONDS
    assert settled(pool, "flaky") is family
    pool.close()


@pytest.mark.parametrize("idle", [True, False])
def test_without_memory_idle_models_leave_and_it_is_tried_once_more(
    source: Callable[[int], ModelSource], family: StableDiffusion, idle: bool
) -> None:
    def place() -> Placing:
        yield
        if pool.loaded:
            raise torch.OutOfMemoryError
        return family

    pool = ModelPool({"a": source(1), "large": ModelSource(place, 1)})
    assert settled(pool, "a")
    if idle:
        pool.release("a")
        assert settled(pool, "large") is family
        assert pool.loaded == ["large"]
    else:
        with pytest.raises(ModelLoadError, match="too little memory for model 'large'"):
            pool.load("large")
        assert pool.loaded == ["a"]
    pool.close()


def test_unknown(family: StableDiffusion) -> None:
    with pytest.raises(RequestError, match="There is no model 'x' here; choose one of default"):
        ModelPool.of(family).acquire("x")


def test_a_model_is_added_and_one_removed_leaves_once_none_uses_it(
    source: Callable[[int], ModelSource],
) -> None:
    pool = ModelPool({"first": source(1)}, max_bytes=2)
    pool.add("second", source(1))
    assert pool.names == ["first", "second"]
    used = settled(pool, "second")
    assert used is not None
    pool.remove("second")
    assert (pool.names, pool.loaded) == (["first"], ["second"])
    with pytest.raises(RequestError, match="There is no model 'second' here; choose one of first"):
        pool.acquire("second")
    assert settled(pool, "first") is not None
    pool.release("second")
    assert pool.loaded == ["first"]
    pool.add("second", source(1))
    assert settled(pool, "second") not in (None, used), "it is read again"


def test_one_that_is_removed_while_it_loads_does_not_stay(
    source: Callable[[int], ModelSource],
) -> None:
    pool = ModelPool({"first": source(1), "second": source(1)})
    assert pool.acquire("second") is None
    pool.remove("second")
    while pool.loading:
        pool.wait(timeout=None)
        pool.advance(lambda _name, _model: iter(()))
    assert pool.loaded == []
