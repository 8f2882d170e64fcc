"""The report of a results file: tables in Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from loadtests.peers.arms import Arm
from loadtests.peers.client import Sample
from loadtests.peers.figures import Latency, highest_rate, ratio, summarize
from loadtests.peers.machine import Machine
from loadtests.peers.results import Results, Subject


@dataclass(frozen=True, slots=True)
class Rate:
    """What the arms met with at one rate, in requests a second."""

    rate: float
    load: float
    samples: Mapping[Arm, list[Sample]]
    latencies: Mapping[Arm, Latency]


def markdown(results: Results) -> str:
    """All of it."""
    return "\n".join(line for part in _parts(results) for line in part) + "\n"


def rates(results: Results, subject: Subject) -> list[Rate]:
    """In ascending order; the samples of all rounds together."""
    alone = fastest_alone(results, subject)
    found: dict[float, dict[Arm, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    loads: dict[float, float] = {}
    for each in sorted(results.passes, key=lambda each: each.number):
        if each.subject == subject:
            rate = round(each.rate, 3)
            found[rate][each.configuration.arm] += each.samples
            loads[rate] = each.load
    return [
        Rate(
            rate,
            loads[rate],
            samples,
            {arm: summarize(samples[arm], alone) for arm in Arm if arm in samples},
        )
        for rate, samples in sorted(found.items())
    ]


def fastest_alone(results: Results, subject: Subject) -> dict[int, float]:
    """Seconds of a picture alone by its steps: those of whichever arm is fastest."""
    all_of_them = [each.alone for each in results.capacities(subject)]
    return {steps: min(each[steps] for each in all_of_them) for steps in all_of_them[0]}


def _parts(results: Results) -> Iterator[list[str]]:
    yield [str(each) for each in results.records if isinstance(each, Machine)][-1:]
    for subject in results.subjects:
        yield ["", f"## {subject.trace}, {subject.size}x{subject.size} pixels"]
        yield _capacities(results, subject)
        by_rate = rates(results, subject)
        if by_rate:
            yield _latencies(by_rate)
            yield _ratios(by_rate)
            yield _highest_rates(by_rate)


def _capacities(results: Results, subject: Subject) -> list[str]:
    found = results.capacities(subject)
    best = [results.best(subject, [arm]) for arm in Arm]
    fastest = max(each.pictures_per_s for each in found)
    steps = list(found[0].alone)
    rows = [
        [
            each.configuration.arm,
            each.configuration.batching,
            str(each.configuration.threads),
            *(f"{each.alone[count]:.3f}" for count in steps),
            f"**{each.pictures_per_s:.2f}**" if each in best else f"{each.pictures_per_s:.2f}",
            f"{each.pictures_per_s / fastest:.2f}",
        ]
        for each in sorted(found, key=lambda each: list(Arm).index(each.configuration.arm))
    ]
    alone = [f"{count} steps alone, s" for count in steps]
    return _table(["", "batching", "threads", *alone, "pictures/s", "of the fastest"], rows)


def _latencies(by_rate: Sequence[Rate]) -> list[str]:
    rows = [
        [
            f"{each.load:g} ({each.rate:.2f}/s)",
            arm,
            *(f"{'≥ ' if latency.missing else ''}{s:.2f}" for s in (latency.p50, latency.p95)),
            f"{latency.within:.0%}",
            f"{latency.missing} of {latency.requests}",
        ]
        for each in by_rate
        for arm, latency in each.latencies.items()
    ]
    return _table(["load", "", "p50, s", "p95, s", "within 5x", "not drawn in time"], rows)


def _ratios(by_rate: Sequence[Rate]) -> list[str]:
    """Us over the peer that is best in that very figure."""
    rows = []
    for each in by_rate:
        peers = {arm: value for arm, value in each.latencies.items() if arm is not Arm.SFUMATO}
        if not peers or Arm.SFUMATO not in each.latencies:
            continue
        row = [f"{each.load:g} ({each.rate:.2f}/s)"]
        for percent, best in (
            (50, min(peers, key=lambda arm: peers[arm].p50)),
            (95, min(peers, key=lambda arm: peers[arm].p95)),
        ):
            against = ratio(each.samples[Arm.SFUMATO], each.samples[best], percent)
            row += [str(against), best]
        best = max(peers, key=lambda arm: peers[arm].within)
        points = 100 * (each.latencies[Arm.SFUMATO].within - peers[best].within)
        rows.append([*row, f"{points:+.0f} points", best])
    names = ["p50", "beside", "p95", "beside", "within 5x", "beside"]
    return _table(["load", *names], rows) if rows else []


def _highest_rates(by_rate: Sequence[Rate]) -> list[str]:
    rows = []
    for arm in Arm:
        points = [(each.rate, each.latencies[arm]) for each in by_rate if arm in each.latencies]
        if points:
            rows.append([arm, _rate(highest_rate(points))])
    return _table(["", "p95 stays within 5x up to"], rows)


def _rate(found: tuple[float, bool] | None) -> str:
    if found is None:
        return "no rate that was measured"
    rate, all_of_them = found
    return f"{rate:.2f}/s or more" if all_of_them else f"{rate:.2f}/s"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["", *(f"| {' | '.join(line)} |" for line in lines)]
