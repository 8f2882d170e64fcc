from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.diffusion.batching.curve import Curve

SMALL, LARGE = 64 * 64, 128 * 128

sizes = st.sampled_from([64 * 64, 64 * 96, 128 * 128, 512 * 512])
rows = st.integers(1, 32)
measurements = st.lists(st.tuples(sizes, rows, st.floats(0, 1e6)), max_size=20)


def curve(*points: tuple[int, int, float]) -> Curve:
    made = Curve()
    made.restore(list(points))
    return made


def test_a_guess_before_the_first_measurement() -> None:
    assert Curve(per_megapixel=2.0).at(500_000, 2) == 2.0
    assert Curve().at(500_000, 2) == 0.0


def test_one_point_is_taken_in_proportion() -> None:
    made = curve((SMALL, 2, 0.5))
    assert made.at(SMALL, 4) == 1.0
    assert made.at(SMALL, 1) == 0.25
    assert made.at(LARGE, 2) == 2.0


def test_on_the_line_between_points_and_beyond() -> None:
    made = curve((SMALL, 2, 5.0), (SMALL, 4, 6.0), (SMALL, 8, 10.0))
    assert made.at(SMALL, 3) == 5.5
    assert made.at(SMALL, 6) == 8.0
    assert made.at(SMALL, 1) == 4.5
    assert made.at(SMALL, 10) == 12.0


def test_left_of_the_first_point_never_below_proportion() -> None:
    made = curve((SMALL, 4, 1.0), (SMALL, 5, 2.0))
    assert made.at(SMALL, 1) == 0.25


def test_twice_the_pixels_of_the_largest_count_as_two_rows() -> None:
    made = curve((SMALL, 1, 10.0), (SMALL, 8, 17.0))
    assert made.at(2 * SMALL, 3) == made.at(SMALL, 6) == 15.0


def test_between_two_sizes() -> None:
    made = curve((SMALL, 1, 1.0), (SMALL, 2, 2.0), (3 * SMALL, 1, 5.0), (3 * SMALL, 2, 10.0))
    assert made.at(2 * SMALL, 1) == 3.0
    assert made.at(2 * SMALL, 2) == 6.0


def test_a_size_known_at_one_number_of_rows_takes_another_s_shape() -> None:
    made = curve((SMALL, 1, 10.0), (SMALL, 8, 17.0), (LARGE, 1, 26.0))
    assert made.at(LARGE, 1) == 26.0
    assert made.at(LARGE, 2) == pytest.approx(34.0)  # twice 13, the line's: 17 / 13


def test_more_rows_never_take_less() -> None:
    made = curve((SMALL, 1, 3.0), (SMALL, 2, 2.0), (SMALL, 4, 4.0))
    assert [made.at(SMALL, n) for n in (1, 2, 3, 4)] == [3.0, 3.0, 3.5, 4.0]


def test_one_slow_measurement_changes_nothing() -> None:
    made = Curve()
    for _ in range(9):
        made.observe(SMALL, 1, 1.0)
    for _ in range(4):
        made.observe(SMALL, 1, 100.0)
        assert made.at(SMALL, 1) == 1.0


def test_a_slow_first_measurement_is_corrected_by_the_second() -> None:
    made = Curve()
    made.observe(SMALL, 1, 60.0)
    made.observe(SMALL, 1, 1.0)
    assert made.at(SMALL, 1) == 1.0


def test_it_follows_a_lasting_change() -> None:
    made = Curve()
    for _ in range(30):
        made.observe(SMALL, 1, 1.0)
    for _ in range(5):
        made.observe(SMALL, 1, 3.0)
    assert made.at(SMALL, 1) == 3.0


def test_a_batch_has_a_pixel() -> None:
    with pytest.raises(ValueError, match="0 rows of 4096 pixels"):
        Curve().observe(SMALL, 0, 1.0)
    with pytest.raises(ValueError, match="1 rows of 0 pixels"):
        Curve().observe(0, 1, 1.0)


@given(measurements, st.integers(1, 2**20), st.lists(st.integers(1, 64), min_size=2, max_size=8))
def test_never_negative_and_never_less_for_more_rows(
    measured: list[tuple[int, int, float]], pixels: int, asked: list[int]
) -> None:
    made = curve(*measured)
    values = [made.at(pixels, n) for n in sorted(asked)]
    assert min(values) >= 0
    for less, more in pairwise(values):
        assert less <= more * (1 + 1e-9)


@given(st.dictionaries(sizes, st.dictionaries(rows, st.floats(0, 1e6), min_size=1), min_size=1))
def test_what_was_measured_is_reproduced(measured: dict[int, dict[int, float]]) -> None:
    """Where more rows took longer; a real device's noise is smoothed over."""
    made = Curve()
    for size, points in measured.items():
        for number, value in zip(sorted(points), sorted(points.values()), strict=True):
            made.observe(size, number, value)
    for size, points in measured.items():
        for number, value in zip(sorted(points), sorted(points.values()), strict=True):
            assert made.at(size, number) == pytest.approx(value, rel=1e-6, abs=1e-6)


@given(
    st.floats(0.001, 10),
    st.lists(st.floats(0.95, 1.05), min_size=5, max_size=5),
    st.lists(st.floats(0, 1e6), max_size=4),
    st.randoms(use_true_random=False),
)
def test_four_wild_measurements_of_nine_stay_within_the_noise(
    true: float, noise: list[float], wild: list[float], shuffler: Random
) -> None:
    measured = [true * factor for factor in noise] + wild
    shuffler.shuffle(measured)
    made = Curve()
    for value in measured:
        made.observe(SMALL, 1, value)
    assert 0.95 * true <= made.at(SMALL, 1) <= 1.05 * true


@given(measurements)
def test_points_restore_it(measured: list[tuple[int, int, float]]) -> None:
    made = Curve()
    for point in measured:
        made.observe(*point)
    again = curve(*made.points())
    assert again.points() == made.points()
    assert again.at(100 * 100, 3) == made.at(100 * 100, 3)
    assert again.has_shape() == made.has_shape()
    again.clear()
    assert again.points() == []
