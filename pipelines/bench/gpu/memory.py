"""Whether every picture is drawn where memory does not suffice for the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipelines.bench.errors import BenchError
from pipelines.bench.plan import BATCH, Plan
from pipelines.bench.subject import Subject, open_subject
from pipelines.diffusion.request import Request, Result
from pipelines.diffusion.speed.device_memory import DeviceMemory

_STEPS = 4
_SHARE = 0.4  # of what a step of all takes


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """Eight pictures below a cap that a step of eight does not fit under, and with none.

    Bytes of the weights, of a step of eight and of one decode beside them, and of the cap;
    ``errors`` are the out-of-memory errors that the engine met with and went on from.
    """

    weights: int
    step: int
    decode: int
    cap: int
    errors: int
    drawn_capped: int
    drawn_after: int


@torch.inference_mode()
def measure_out_of_memory(plan: Plan) -> OutOfMemory:
    """Raises BenchError where there is no CUDA device."""
    subject = open_subject(plan)
    device, family = subject.device, subject.family
    if device.type != "cuda":
        raise BenchError("Only a CUDA device can be given less memory than it has.")
    memory = DeviceMemory(device)
    asked = [subject.ask(_STEPS, seed=seed) for seed in range(BATCH)]
    batch = [family.prepare(each, family.encode(each)) for each in asked]
    step = memory.peak_of(lambda: family.denoise(batch)) or 0
    decode = memory.peak_of(lambda: family.decode(batch[0].latents)) or 0
    batch.clear()
    torch.cuda.empty_cache()
    weights = torch.cuda.memory_allocated(device)
    cap = weights + int(max(_SHARE * step, 1.2 * decode))
    torch.cuda.set_per_process_memory_fraction(cap / torch.cuda.mem_get_info(device)[1], device)
    before = _errors(device)
    drawn_capped = _draw(subject)
    errors = _errors(device) - before
    torch.cuda.set_per_process_memory_fraction(1.0, device)
    return OutOfMemory(weights, step, decode, cap, errors, drawn_capped, _draw(subject))


def _errors(device: torch.device) -> int:
    return int(torch.cuda.memory_stats(device).get("num_ooms", 0))


def _draw(subject: Subject) -> int:
    """How many of eight pictures came out."""
    engine = subject.engine(BATCH)
    for seed in range(BATCH):
        engine.add(Request(str(seed), subject.ask(_STEPS, seed=seed)))
    drawn = 0
    while engine.has_work:
        drawn += sum(isinstance(output, Result) for output in engine.step())
    engine.close()
    return drawn
