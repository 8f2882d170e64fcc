"""What a picture will cost in seconds and bytes of the device. Free of torch."""

from __future__ import annotations

from typing import Self, TypedDict

from pipelines.diffusion.batching.curve import Curve, Point
from pipelines.diffusion.request import SamplingParams

_BEST = 0.95
_ANY_SIZE = 1  # text encoders see no pixels


class Profile(TypedDict):
    """A CostModel's knowledge as plain data, for another process; JSON can carry it."""

    guided_rows: int
    encode: list[Point]
    denoise: list[Point]
    decode: list[Point]
    step_bytes: list[Point]
    held_bytes: list[Point]


class CostModel:
    """Seconds and bytes by picture size and batch rows, learnt at warm-up and from each step.

    A guided request is ``guided_rows`` rows of the denoiser's batch: two, or one where the model
    was distilled to take guidance as an input. See ``Curve`` for what it makes of sizes and rows
    that were not measured, and of a slow step.
    """

    def __init__(self, seconds_per_megapixel: float = 1.0, guided_rows: int = 2) -> None:
        """``seconds_per_megapixel`` of one row's step is the guess before the first step."""
        self.guided_rows = guided_rows
        self._encode = Curve()
        self._denoise = Curve(seconds_per_megapixel)
        self._decode = Curve()
        self._step_bytes = Curve()
        self._held_bytes = Curve()

    def observe(self, pixels: int, rows: int, seconds: float) -> None:
        """A step of ``rows`` rows of ``pixels`` pixels each took so long."""
        self._denoise.observe(pixels, rows, seconds)

    def observe_encode(self, rows: int, seconds: float) -> None:
        """The prompts of so many rows took so long, from a cache or not."""
        self._encode.observe(_ANY_SIZE, rows, seconds)

    def observe_decode(self, pixels: int, seconds: float) -> None:
        """From latents to a picture of ``pixels`` pixels."""
        self._decode.observe(pixels, 1, seconds)

    def observe_step_bytes(self, pixels: int, rows: int, peak: int) -> None:
        """At its peak a step took so many bytes more than lay there before it."""
        self._step_bytes.observe(pixels, rows, peak)

    def observe_held_bytes(self, pixels: int, rows: int, held: int) -> None:
        """A request of so many rows holds so much between steps: latents, conditioning, history."""
        self._held_bytes.observe(pixels, rows, held)

    def rows(self, params: SamplingParams) -> int:
        return self.guided_rows if params.guidance_scale > 1 else 1

    def seconds_per_step(self, pixels: int, rows: int) -> float:
        """Predicted for the whole step batch, not for one of its rows."""
        return self._denoise.at(pixels, rows)

    def knows_step(self, pixels: int) -> bool:
        """Whether a step of this size was made; else its seconds follow from other sizes."""
        return self._denoise.knows(pixels)

    def knows_decoding(self, pixels: int) -> bool:
        """Whether a picture of this size was decoded."""
        return self._decode.knows(pixels)

    def encode_seconds(self, params: SamplingParams) -> float:
        """Predicted for the request's prompts."""
        return self._encode.at(_ANY_SIZE, self.rows(params))

    def decode_seconds(self, pixels: int) -> float:
        """Predicted from latents to picture."""
        return self._decode.at(pixels, 1)

    def predict(self, params: SamplingParams) -> float:
        """Seconds from prompt to picture, when it is alone in its steps."""
        return self.encode_seconds(params) + self.remaining(params, steps_to_make(params))

    def remaining(self, params: SamplingParams, steps: int) -> float:
        """Seconds that ``steps`` more steps and the decoding take, when it is alone in them."""
        pixels = params.width * params.height
        step = self.seconds_per_step(pixels, self.rows(params))
        return steps * step + self.decode_seconds(pixels)

    def held_bytes(self, params: SamplingParams) -> int:
        """What the request holds from its first step until it leaves; 0 before any is known."""
        return round(self._held_bytes.at(params.width * params.height, self.rows(params)))

    def step_bytes(self, pixels: int, rows: int) -> int:
        """What a step takes at its peak beside weights and held bytes; 0 before any is known."""
        return round(self._step_bytes.at(pixels, rows))

    def saturation(self, pixels: int, most: int) -> int:
        """The fewest rows, a power of two, of within 5 % of the best throughput up to ``most``.

        More rows than these make every request in the step slower and hardly any sooner. It is
        ``most`` until steps of different numbers of rows were measured, and no less than the fewest
        of these: half a picture is not known to take half the time.
        """
        if not self._denoise.has_shape():
            return most
        fewest = min(most, self._denoise.fewest_rows(pixels))
        choices = [rows for i in range(most.bit_length()) if (rows := 1 << i) >= fewest]
        seconds = {rows: self.seconds_per_step(pixels, rows) for rows in [*choices, most]}
        if not all(seconds.values()):
            return most
        best = max(rows / seconds[rows] for rows in seconds)
        return next((rows for rows in choices if rows / seconds[rows] >= _BEST * best), most)

    def rows_within(self, pixels: int, most: int, memory: int) -> int:
        """The most rows whose step takes no more than ``memory`` bytes: from 1 to ``most``."""
        fitting = (rows for rows in range(most, 1, -1) if self.step_bytes(pixels, rows) <= memory)
        return next(fitting, 1)

    def saturation_share(self, params: SamplingParams, most: int) -> float:
        """The request's share of a step that saturates the device, or has ``most`` rows."""
        return self.rows(params) / self.saturation(params.width * params.height, most)

    def fill(self, params: SamplingParams, most: int, memory: int | None) -> float:
        """The request's share of a step that takes ``memory`` bytes, or has ``most`` rows."""
        pixels = params.width * params.height
        whole = most if memory is None else self.rows_within(pixels, most, memory)
        return self.rows(params) / whole

    def device_seconds(self, params: SamplingParams, most: int) -> float:
        """What the picture takes of the device where steps are as full as is worth it.

        That is its rows' part of a saturated step (of ``most`` rows at most), times its steps, and
        its prompt and decoding. Sums of it say how long a queue lasts; ``predict`` says how long
        one picture does.
        """
        pixels = params.width * params.height
        rows = self.saturation(pixels, most)
        step = self.seconds_per_step(pixels, rows) / rows * self.rows(params)
        return (
            self.encode_seconds(params) + steps_to_make(params) * step + self.decode_seconds(pixels)
        )

    def clear(self) -> None:
        """Forgets the denoising steps."""
        self._denoise.clear()

    def profile(self) -> Profile:
        return {
            "guided_rows": self.guided_rows,
            "encode": self._encode.points(),
            "denoise": self._denoise.points(),
            "decode": self._decode.points(),
            "step_bytes": self._step_bytes.points(),
            "held_bytes": self._held_bytes.points(),
        }

    @classmethod
    def from_profile(cls, profile: Profile) -> Self:
        """Predicts as the one it was taken from, and can go on learning.

        Of another version's the curves that both know are taken. Raises KeyError, TypeError or
        ValueError for one that has none of them in a form that is known.
        """
        cost = cls(guided_rows=profile["guided_rows"])
        cost._encode.restore(profile["encode"])
        cost._denoise.restore(profile["denoise"])
        cost._decode.restore(profile["decode"])
        cost._step_bytes.restore(profile.get("step_bytes", []))
        cost._held_bytes.restore(profile.get("held_bytes", []))
        return cost


def made_steps(steps: int, strength: float) -> int:
    """Of so many steps, those that a source picture's ``strength`` leaves, as diffusers rounds."""
    return min(int(steps * strength), steps)


def steps_to_make(params: SamplingParams) -> int:
    """Of the request: all, or what its source picture leaves."""
    if params.image is None:
        return params.num_inference_steps
    return made_steps(params.num_inference_steps, params.strength)
