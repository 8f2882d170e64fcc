"""A measured quantity of a batch, by picture size and rows. Free of torch."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import accumulate

_WINDOW = 9
_MEGAPIXEL = 1_000_000

Point = tuple[int, int, float]
"""Pixels of a row, rows, and what was measured."""


class Curve:
    """Seconds or bytes as a function of a row's pixels and the number of rows.

    A point is the median of its last nine measurements, so that up to four slow steps among them
    leave it where it was, while a lasting change takes over with the fifth.

    Of a size that was measured at several numbers of rows, the values lie on the line from point
    to point, and beyond on the outer two's: never less for more rows, and never below zero. A
    size known at one number of rows has the shape of the nearest that is known at more. Between
    two sizes the values are in proportion to the distance; beyond them, a row of twice the pixels
    counts as two rows.
    """

    def __init__(self, per_megapixel: float = 0.0) -> None:
        """``per_megapixel`` of one row is the guess before the first measurement."""
        self._guess = per_megapixel
        self._windows: dict[tuple[int, int], deque[float]] = {}
        self._points: dict[int, dict[int, float]] = {}  # by pixels, then rows

    def observe(self, pixels: int, rows: int, value: float) -> None:
        """Raises ValueError for a batch without a pixel."""
        if pixels < 1 or rows < 1:
            raise ValueError(f"{rows} rows of {pixels} pixels are no batch to learn from.")
        window = self._windows.setdefault((pixels, rows), deque(maxlen=_WINDOW))
        window.append(max(0.0, value))
        # Of an even number the lower middle: the second measurement corrects a slow first.
        point = sorted(window)[(len(window) - 1) // 2]
        self._points.setdefault(pixels, {})[rows] = point

    def at(self, pixels: int, rows: float) -> float:
        """``rows`` need not be whole: half a row is a row of half the pixels."""
        if not self._points:
            return self._guess * pixels * rows / _MEGAPIXEL
        below = max((size for size in self._points if size <= pixels), default=0)
        above = min((size for size in self._points if size >= pixels), default=0)
        if below and above > below:
            low, high = self._of_size(below, rows), self._of_size(above, rows)
            return low + (high - low) * (pixels - below) / (above - below)
        size = below or above
        return self._of_size(size, rows * pixels / size)

    def knows(self, pixels: int) -> bool:
        """Whether this size was measured itself, with any number of rows."""
        return pixels in self._points

    def has_shape(self) -> bool:
        """Whether any size was measured at more than one number of rows."""
        return any(len(points) > 1 for points in self._points.values())

    def fewest_rows(self, pixels: int) -> float:
        """The fewest rows of this size whose value is not taken from fewer pixels than measured.

        Raises:
            ValueError: no size was measured at more than one number of rows.
        """
        size = self._nearest_shape(pixels)
        return min(self._points[size]) * size / pixels

    def clear(self) -> None:
        self._windows.clear()
        self._points.clear()

    def points(self) -> list[Point]:
        """What ``restore`` takes; of each point's measurements only the median."""
        return [
            (pixels, rows, value)
            for pixels, points in self._points.items()
            for rows, value in points.items()
        ]

    def restore(self, points: list[Point]) -> None:
        self.clear()
        for pixels, rows, value in points:
            self.observe(pixels, rows, value)

    def _of_size(self, size: int, rows: float) -> float:
        points = self._points[size]
        if len(points) > 1:
            return _on_line(points, rows)
        ((known, value),) = points.items()
        if self.has_shape():
            nearest = self._nearest_shape(size)
            line = self._points[nearest]
            at_known = _on_line(line, known * size / nearest)
            if at_known > 0:
                return value * (_on_line(line, rows * size / nearest) / at_known)
        return value * rows / known

    def _nearest_shape(self, pixels: int) -> int:
        """Of the sizes that were measured at more than one number of rows."""
        shaped = [size for size, points in self._points.items() if len(points) > 1]
        return min(shaped, key=lambda size: max(size / pixels, pixels / size))


def _on_line(points: dict[int, float], rows: float) -> float:
    """Through two points or more; where one is below the last, the last's value stands for it."""
    xs = sorted(points)
    ys = list(accumulate((points[x] for x in xs), max))
    end = min(max(bisect_left(xs, rows), 1), len(xs) - 1)
    start = end - 1
    slope = (ys[end] - ys[start]) / (xs[end] - xs[start])
    value = ys[start] + slope * (rows - xs[start])
    # Left of the first point, no less than in proportion: the line may cut the axis.
    return max(value, ys[0] * rows / xs[0]) if rows < xs[0] else value
