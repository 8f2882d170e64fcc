"""Text-to-image pipelines of diffusers without a family of their own, by their ``__call__``.

Why and how: docs/decisions/0012-whole-calls.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from torch import Tensor

from pipelines.diffusion.catalog import ModelDescription
from pipelines.diffusion.errors import RequestError
from pipelines.diffusion.families.pipeline_call import StepCallback
from pipelines.diffusion.families.registry import whole_call_entry
from pipelines.diffusion.families.shared_call import Caller, Drawn, SharedCall, Turn
from pipelines.diffusion.pretrained import read_pipeline
from pipelines.diffusion.request import NoiseScheduler, SamplingParams
from pipelines.diffusion.schedulers import new_scheduler
from pipelines.diffusion.text_reading import observe_tokenizers, readings_of_rows, recorded_texts

# By which names pipelines tell what their safety checker has blackened.
_VERDICTS = ("nsfw_content_detected", "nsfw_detected", "watermark_detected")


class WholeCall:
    """A loaded pipeline that draws the requests of a call together, and no others meanwhile.

    Pipelines keep the state of a call in themselves (their noise scheduler, the guidance,
    sometimes attention processors), so one call runs at a time; between the engine's steps it
    stands still. Who arrives meanwhile waits for its end. When a call of several raises, each of
    them starts over from its seed, alone. For one thread, under ``torch.inference_mode``.
    """

    def __init__(self, pipeline: Any, description: ModelDescription) -> None:
        """``pipeline`` is on its device and in its dtype already."""
        self.pipeline = pipeline
        self.description = description
        self._scheduler = pipeline.scheduler
        self._parameters = inspect.signature(pipeline.__call__).parameters
        self._entry = whole_call_entry(description.class_name)
        self._running: SharedCall | None = None
        pipeline.set_progress_bar_config(disable=True)
        observe_tokenizers(pipeline)

    @staticmethod
    def read(folder: Path, dtype: torch.dtype, without: Collection[str] = ()) -> Any:
        return read_pipeline(DiffusionPipeline, folder, dtype, without)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.pipeline.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.pipeline.dtype
        return dtype

    def admit(self, request_id: str, params: SamplingParams) -> Caller:
        """Raises RequestError for what cannot be drawn."""
        self._check(params)
        scheduler = self._scheduler
        if params.scheduler is not NoiseScheduler.DEFAULT:
            scheduler = new_scheduler(params.scheduler, self._scheduler)
        return Caller(request_id, params, scheduler)

    def advance(self, callers: Sequence[Caller]) -> list[Turn]:
        """A step of the call that runs, whether or not ``callers`` are in it.

        Without one a call begins, for the first of them that waits and all that can share it.
        Raises OutOfMemoryError where a call of several ran out: fewer are to be tried together.
        """
        if self._running is None or self._running.over:
            waiting = [each for each in callers if each.call is None]
            self._running = self._begin(self._sharers(waiting)) if waiting else None
        return [] if self._running is None else self._running.advance()

    def _sharers(self, waiting: Sequence[Caller]) -> list[Caller]:
        first = waiting[0]
        if first.alone or self._entry.alone:
            return [first]
        key = _call_key(first.params)
        return [each for each in waiting if not each.alone and _call_key(each.params) == key]

    def _begin(self, callers: Sequence[Caller]) -> SharedCall:
        """All of ``callers`` have one ``_call_key``."""
        params = callers[0].params
        self.pipeline.scheduler = callers[0].scheduler
        guidance = self._entry.guidance
        offered: dict[str, Any] = {
            "prompt": [each.params.prompt for each in callers],
            "height": params.height,
            "width": params.width,
            "num_inference_steps": params.num_inference_steps,
            guidance: params.guidance_scale,
            "generator": [torch.Generator().manual_seed(each.params.seed) for each in callers],
            "output_type": self._entry.output_type,
        }
        if params.negative_prompt or guidance == "true_cfg_scale":
            offered["negative_prompt"] = [each.params.negative_prompt for each in callers]
        arguments = {name: offered[name] for name in offered if name in self._parameters}

        # It holds neither the family nor its requests, which a call that is dropped would keep.
        pipeline, parameters = self.pipeline, self._parameters
        prompts = [(each.params.prompt, each.params.negative_prompt) for each in callers]

        def call(on_step: StepCallback) -> Drawn:
            with recorded_texts() as texts_read:
                output = pipeline(**arguments, **_callback(parameters, on_step))
            refused = _refused(pipeline, output, len(prompts))
            return Drawn(_pictures(output), refused, readings_of_rows(texts_read, prompts))

        return SharedCall(callers, call)

    def _check(self, params: SamplingParams) -> None:
        self.description.check_size(params.width, params.height)
        self.description.check_steps(params.scheduler, params.num_inference_steps)
        given = {
            "image": params.image is not None,
            "mask": params.mask is not None,
            "control": params.control is not None,
            "loras": bool(params.loras),
            "clip_skip": params.clip_skip > 0,
        }
        for name in given:
            if given[name]:
                raise RequestError(
                    f"{self.description.class_name} draws from text alone here; leave out {name}."
                )


def _callback(parameters: Collection[str], on_step: StepCallback) -> dict[str, Any]:
    """In the form that the pipeline takes; without one its call is a single step."""
    if "callback_on_step_end" in parameters:

        def on_step_end(_: Any, __: int, ___: Any, tensors: dict[str, Tensor]) -> dict[str, Any]:
            on_step(tensors["latents"])
            return {}

        return {"callback_on_step_end": on_step_end}
    if "callback" in parameters:
        return {"callback": lambda _, __, latents: on_step(latents), "callback_steps": 1}
    return {}


def _pictures(output: Any) -> Tensor:
    """(rows, 3, height, width) from 0 to 1, float32 on the CPU; some call them by the singular."""
    found: Any = getattr(output, "images", None)
    images: Tensor | NDArray[np.float32] = output.image if found is None else found
    if isinstance(images, Tensor):
        return images.float().cpu()
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _refused(pipeline: Any, output: Any, rows: int) -> list[bool]:
    """Raises RequestError where there is a safety checker that the call has not asked."""
    found = [getattr(output, name, None) for name in _VERDICTS]
    verdicts = [each for each in found if each is not None]
    if verdicts:
        return [any(of_row) for of_row in zip(*verdicts, strict=True)]
    if getattr(pipeline, "safety_checker", None) is not None:
        raise RequestError(
            f"{type(pipeline).__name__} does not ask its safety checker; load the model without it."
        )
    return [False] * rows


def _call_key(params: SamplingParams) -> Hashable:
    """What a call takes once for all its rows."""
    return (
        params.height,
        params.width,
        params.num_inference_steps,
        params.guidance_scale,
        params.scheduler,
        bool(params.negative_prompt),
    )
