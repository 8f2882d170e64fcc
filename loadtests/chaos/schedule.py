"""Which fault, when: the same seed gives the same schedule."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import orjson


class TooShort(Exception):
    """So many kills do not fit into so few minutes; the message says how many would do."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault: from ``at`` (seconds after the load began) for ``seconds``."""

    number: int
    at: float
    fault: str
    seconds: float
    seed: int
    """For what the fault itself must choose."""


@dataclass(frozen=True, slots=True)
class _Kind:
    fault: str
    hold_s: tuple[float, float]
    rest_s: float
    """What its recovery takes, before the next one of its lane."""


# Share of the kills; a diffusion replica costs most to start again.
_KILLS = {
    _Kind("kill-postprocess", (0, 0), 2.5): 0.40,
    _Kind("kill-ingress", (0, 0), 4.0): 0.27,
    _Kind("kill-proxy", (0, 0), 6.0): 0.13,
    _Kind("kill-diffusion", (0, 0), 8.0): 0.13,
    _Kind("kill-controller", (0, 0), 6.0): 0.07,
}
# These pass beside the kills, one at a time.
_BESIDE = (
    _Kind("drop-commits", (2, 4), 1.0),
    _Kind("freeze-diffusion", (17, 20), 2.0),  # longer than the lease
    _Kind("cut-clients", (0, 0), 1.0),
    _Kind("restart-valkey", (0.5, 3), 1.0),
    _Kind("drop-commits", (2, 4), 1.0),
    _Kind("slow-database", (5, 8), 3.0),
    _Kind("freeze-ingress", (2, 5), 1.0),
    _Kind("flush-valkey", (0, 0), 1.0),
    _Kind("silent-readers", (8, 12), 1.0),
    _Kind("freeze-valkey", (2, 6), 1.0),
    _Kind("cut-clients", (0, 0), 1.0),
    _Kind("freeze-postprocess", (2, 5), 1.0),
    _Kind("reset-database", (0, 0), 1.0),
    _Kind("overload", (3, 5), 4.0),
    _Kind("cut-database", (1, 4), 1.0),
    _Kind("black-hole-database", (0, 0), 9.0),
    _Kind("freeze-controller", (2, 5), 1.0),
    _Kind("reset-valkey", (0, 0), 1.0),
    _Kind("freeze-proxy", (1, 4), 2.0),
    _Kind("newer-rows", (2, 5), 1.0),
)
# While these last nothing gets done, so nothing else happens meanwhile.
_ALONE = (
    _Kind("stop-postgres", (5, 30), 3.0),
    _Kind("fill-storage", (4, 8), 2.0),
    _Kind("stall-database", (4, 20), 3.0),
    _Kind("read-only-database", (5, 30), 3.0),
    _Kind("promote-standby", (5, 20), 3.0),
)
_REDEPLOY = _Kind("redeploy", (0, 0), 25.0)
_KILLS_TO_ONE_ALONE = 10
_BEGIN_S = 2.0


def make_schedule(seed: int, kills: int, minutes: float) -> list[Planned]:
    """``kills`` kills within ``minutes``, with every other fault between and beside them.

    Raises:
        TooShort: the kills alone take longer.
    """
    tight = _lay_out(random.Random(seed), kills, 0.0)
    spare_s = minutes * 60 - _end(tight)
    if spare_s < 0:
        needed = ceil(10 * (minutes - spare_s / 60)) / 10
        raise TooShort(f"{kills} kills need {needed} minutes with this seed; it has {minutes:g}.")
    # More rest between kills makes room for more faults beside them, which may not fit again.
    for share in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1):
        schedule = _lay_out(random.Random(seed), kills, share * spare_s / kills)
        if _end(schedule) <= minutes * 60:
            return schedule
    return tight


def _end(schedule: list[Planned]) -> float:
    return max(planned.at + planned.seconds for planned in schedule)


def _lay_out(chance: random.Random, kills: int, more_rest_s: float) -> list[Planned]:
    own = _kills(chance, kills)
    beside, alone = _rounds(chance, _BESIDE), _rounds(chance, _ALONE, _REDEPLOY)
    planned: list[Planned] = []
    process_at = beside_at = _BEGIN_S

    def add(kind: _Kind, at: float) -> float:
        seconds = round(chance.uniform(*kind.hold_s), 2)
        planned.append(
            Planned(len(planned), round(at, 2), kind.fault, seconds, chance.randrange(2**32))
        )
        return at + seconds + kind.rest_s

    for index, kill in enumerate(own):
        process_at = add(kill, process_at) + more_rest_s
        while beside_at < process_at:
            beside_at = add(next(beside), beside_at)
        if index % _KILLS_TO_ONE_ALONE == _KILLS_TO_ONE_ALONE // 2:
            process_at = beside_at = add(next(alone), max(process_at, beside_at))
    return sorted(planned, key=lambda one: (one.at, one.number))


def _kills(chance: random.Random, kills: int) -> list[_Kind]:
    """So many, by share, in random order."""
    chosen = [kind for kind, share in _KILLS.items() for _ in range(round(share * kills))]
    most = next(iter(_KILLS))
    chosen = (chosen + [most] * kills)[:kills]
    chance.shuffle(chosen)
    return chosen


def _rounds(chance: random.Random, kinds: tuple[_Kind, ...], *last: _Kind) -> Iterator[_Kind]:
    """Each of them once, in random order, then ``last``; then all of them again."""
    while True:
        yield from chance.sample(kinds, len(kinds))
        yield from last


def save_schedule(schedule: list[Planned], path: Path) -> None:
    path.write_bytes(orjson.dumps(schedule, option=orjson.OPT_INDENT_2))
