"""What `sfumato bench served` asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.bench.trace import mixed_requests
from pipelines.diffusion.request import Request, SamplingParams


@dataclass
class Traffic:
    """Requests of one size in pixels; ``guidance_scale`` is that of all that are not mixed."""

    width: int
    height: int
    guidance_scale: float
    _asked: int = field(default=0, init=False)

    def one(self, steps: int) -> Request:
        """The same prompt each time, with another seed."""
        self._asked += 1
        params = self._params(steps, self.guidance_scale, self._asked, "a red fox")
        return Request(f"r{self._asked}", params)

    def uniform(self, steps: int, count: int, seed: int) -> list[Request]:
        """All of so many steps; each prompt is asked for once, so that no cache helps."""

        def ask(steps: int, _scale: float, seed: int, prompt: str) -> SamplingParams:
            return self._params(steps, self.guidance_scale, seed, prompt)

        return mixed_requests(count, (steps,), seed, ask, self._label())

    def mixed(self, steps: Sequence[int], count: int, seed: int) -> list[Request]:
        """Of these steps by three guidance scales; each prompt is asked for once."""
        return mixed_requests(count, steps, seed, self._params, self._label())

    def _label(self) -> str:
        self._asked += 1
        return f"{self._asked} "

    def _params(self, steps: int, guidance: float, seed: int, prompt: str) -> SamplingParams:
        return SamplingParams(
            prompt=prompt,
            width=self.width,
            height=self.height,
            num_inference_steps=steps,
            guidance_scale=guidance,
            seed=seed,
        )
