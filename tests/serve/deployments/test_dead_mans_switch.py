"""A replica concludes from silence that it is being stopped."""

from __future__ import annotations

import asyncio

import pytest

from serve.deployments.ingress import TICKS, DeadMansSwitch


@pytest.fixture
def stopping() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def switch(stopping: asyncio.Event) -> DeadMansSwitch:
    return DeadMansSwitch(stopping)


def pass_ticks(switch: DeadMansSwitch, ticks: int) -> None:
    for _ in range(ticks):
        switch.tick()


def test_a_long_start_is_no_end(switch: DeadMansSwitch, stopping: asyncio.Event) -> None:
    pass_ticks(switch, 100 * TICKS)
    assert not stopping.is_set()


def test_silence_is_the_end_and_questions_put_it_off(
    switch: DeadMansSwitch, stopping: asyncio.Event
) -> None:
    for _ in range(3):
        switch.health_checked()
        pass_ticks(switch, TICKS - 1)
        assert not stopping.is_set()
    switch.tick()
    assert stopping.is_set()


def test_a_controller_that_comes_back_takes_the_end_back(
    switch: DeadMansSwitch, stopping: asyncio.Event
) -> None:
    switch.health_checked()
    pass_ticks(switch, 2 * TICKS)
    switch.health_checked()
    assert not stopping.is_set()
    pass_ticks(switch, TICKS)
    assert stopping.is_set()


def test_an_end_that_others_declared_stays(switch: DeadMansSwitch, stopping: asyncio.Event) -> None:
    switch.health_checked()
    stopping.set()  # the app's own, at its shutdown
    switch.health_checked()
    assert stopping.is_set()


async def test_runs_by_itself(
    switch: DeadMansSwitch, stopping: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.deployments.ingress.TICK_S", 0.001)
    switch.health_checked()
    running = asyncio.create_task(switch.run())
    async with asyncio.timeout(10):
        await stopping.wait()
    running.cancel()
