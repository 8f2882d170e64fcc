from __future__ import annotations

import pytest

from pipelines.bench.speed_ups import EAGER, names_of_what_is_on, with_speed_ups
from pipelines.diffusion.speed.acceleration import Acceleration, Float8, Use


def test_by_name() -> None:
    asked = ["compile=always", "float8=dynamic", "batch_buckets=2,8"]
    acceleration = with_speed_ups(EAGER, asked)
    assert acceleration.compile is Use.ALWAYS
    assert acceleration.cuda_graphs is Use.NEVER
    assert acceleration.float8 is Float8.DYNAMIC
    assert acceleration.batch_buckets == (2, 8)
    assert with_speed_ups(Acceleration(), ["vae_memory_bytes=1024"]).vae_memory_bytes == 1024


def test_what_is_on() -> None:
    assert names_of_what_is_on(EAGER) == ["sdpa"]
    fast = with_speed_ups(EAGER, ["compile=always", "float8=dynamic"])
    assert names_of_what_is_on(fast) == [
        "sdpa",
        "compile",
        "float8 dynamic",
    ]


@pytest.mark.parametrize("wrong", ["warp=always", "compile", "batch_buckets=two"])
def test_what_there_is_not(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        with_speed_ups(EAGER, [wrong])
