"""What a process looks at every few seconds."""

from __future__ import annotations

import threading
import time

import psutil
import pytest

from serve.observability.device import GpuSample, ProcessSample
from serve.observability.registry import Registry
from serve.observability.sampler import Sampler
from tests.serve.observability.recorded import recorded

CPU, MEMORY = "sfumato_process_cpu_seconds_total", "sfumato_process_resident_memory_bytes"


def test_a_process_counts_its_cpu_time_and_memory() -> None:
    registry = Registry()
    sample = ProcessSample(registry).sample
    sample()
    before = recorded(registry, CPU)
    until = time.thread_time() + 0.3
    while time.thread_time() < until:
        pass
    sample()

    assert 0.25 <= recorded(registry, CPU) - before < 5, "the system counts in hundredths"
    assert recorded(registry, CPU) <= sum(psutil.Process().cpu_times()[:2])
    assert recorded(registry, MEMORY) == pytest.approx(psutil.Process().memory_info().rss, rel=0.3)


def test_a_sample_that_raises_keeps_no_other_from_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serve.observability.sampler.EVERY_S", 0.01)
    threads: list[threading.Thread] = []

    def broken() -> None:
        raise OSError("no such device")

    sampler = Sampler(broken, lambda: threads.append(threading.current_thread()))
    sampler.start()
    until = time.monotonic() + 10
    while len(threads) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    sampler.stop()
    rounds = len(threads)
    time.sleep(0.05)

    assert 3 <= rounds == len(threads), "it has stopped"
    assert threading.main_thread() not in threads


def test_without_a_driver_a_gpu_is_an_error() -> None:
    pynvml = pytest.importorskip("pynvml")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        with pytest.raises(pynvml.NVMLError):
            GpuSample(Registry(), "0", "cuda:0")
    else:
        pytest.skip("There is a driver.")
