"""What a picture will cost in seconds of the device. Free of torch."""

from __future__ import annotations

from pipelines.diffusion.request import SamplingParams

_MEGAPIXEL = 1_000_000


class CostModel:
    """Seconds of a denoising step by picture size and batch rows, learnt from the steps made.

    A guided request is two rows of a UNet's batch. Sizes and fills that were never seen are
    taken in proportion to the nearest one that was.
    """

    def __init__(self, seconds_per_megapixel: float = 1.0, weight: float = 0.2) -> None:
        """``seconds_per_megapixel`` of one row is the guess before the first step.

        ``weight`` is that of the newest step in the moving average.
        """
        self._guess = seconds_per_megapixel
        self._weight = weight
        self._seconds: dict[tuple[int, int], float] = {}  # by pixels, rows

    def observe(self, pixels: int, rows: int, seconds: float) -> None:
        """A step of ``rows`` rows of ``pixels`` pixels each took so long."""
        known = self._seconds.get((pixels, rows), seconds)
        self._seconds[pixels, rows] = known + self._weight * (seconds - known)

    def seconds_per_step(self, pixels: int, rows: int) -> float:
        """Predicted for the whole step batch, not for one of its rows."""
        if not self._seconds:
            return self._guess * pixels * rows / _MEGAPIXEL
        size, fill = min(self._seconds, key=lambda k: (abs(k[0] - pixels), abs(k[1] - rows)))
        return self._seconds[size, fill] * (pixels * rows) / (size * fill)

    def predict(self, params: SamplingParams, rows: int = 0) -> float:
        """Seconds from the first step to the last in a batch of ``rows``; 0 for alone."""
        pixels = params.width * params.height
        own = 2 if params.guidance_scale > 1 else 1
        return params.num_inference_steps * self.seconds_per_step(pixels, rows or own)

    def clear(self) -> None:
        """Forgets every step."""
        self._seconds.clear()
