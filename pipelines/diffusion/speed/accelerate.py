"""Speed-ups on a loaded model, in the one order that works."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from pipelines.diffusion.errors import AccelerationError
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.families.model import Model
from pipelines.diffusion.families.unet import UNetFamily
from pipelines.diffusion.families.whole_call import WholeCall
from pipelines.diffusion.plain_request import plain_params
from pipelines.diffusion.prompt_cache import PromptCache
from pipelines.diffusion.speed.acceleration import Acceleration, AttentionBackend, Float8, Use
from pipelines.diffusion.speed.attention import choose_attention, set_attention
from pipelines.diffusion.speed.cuda_graphs import CudaCapture, CudaGraphs
from pipelines.diffusion.speed.float8 import check_float8, quantize
from pipelines.diffusion.speed.vae_tiling import VaeTiling

logger = logging.getLogger(__name__)

_NO_GRAPHS = "CUDA graphs need a CUDA device; set cuda_graphs to 'never'."
_NO_STREAMS = "A stream of its own needs a CUDA device; set decode_stream to 'never'."
_COMPILED_SHAPES = 256
"""A block is compiled for each bucket at each of its widths; torch gives up at 8 by default."""


def accelerate(model: Model, wanted: Acceleration) -> Acceleration:
    """Once, on a freshly loaded model. Returns what is on, ``AUTO`` left for ``vae_tiling`` alone.

    Raises AccelerationError for what was asked for and cannot work; nothing has changed then.
    """
    if isinstance(model, WholeCall):
        return _accelerate_whole_calls(model, wanted)
    return _accelerate_family(model, wanted)


def _accelerate_family(family: Family, wanted: Acceleration) -> Acceleration:
    chosen, denoiser = choose(family, wanted), family.denoiser
    asked = wanted.attention is not AttentionBackend.AUTO
    chosen = replace(chosen, attention=set_attention(denoiser, chosen.attention, asked))
    family.acceleration = chosen
    if chosen.channels_last is Use.ALWAYS:
        denoiser.to(memory_format=torch.channels_last)
    if chosen.vae_channels_last is Use.ALWAYS:
        family.vae.model.to(memory_format=torch.channels_last)
    family.vae.tiling = VaeTiling(chosen.vae_tiling, chosen.vae_memory_bytes)
    family.prompts = PromptCache(chosen.prompt_cache_bytes)
    quantize(repeated_blocks(denoiser), chosen.float8)
    if chosen.compile is Use.ALWAYS:
        for block in repeated_blocks(denoiser):
            block.compile(dynamic=False)
    if Use.ALWAYS in (chosen.compile, chosen.cuda_graphs):
        family.batch_buckets = chosen.batch_buckets
    if chosen.cuda_graphs is Use.ALWAYS:
        denoiser.forward = CudaGraphs(
            denoiser.forward,
            CudaCapture(family.device),
            bypass=lambda: family.loras.running or not family.captures,
        )
    return chosen


def choose(family: Family, wanted: Acceleration) -> Acceleration:
    """``wanted``, decided for this model and its device. Raises AccelerationError."""
    denoiser, device = family.denoiser, family.device
    on_cuda = device.type == "cuda"
    check_float8(wanted.float8, device, family.dtype)
    return replace(
        wanted,
        attention=choose_attention(wanted.attention, device, family.dtype),
        channels_last=_decide(
            wanted.channels_last, pays=on_cuda and isinstance(family, UNetFamily)
        ),
        vae_channels_last=_decide(wanted.vae_channels_last, pays=True),
        compile=_decide(
            wanted.compile,
            # What is compiled at the warm-up's prompt would run for prompts of its length alone.
            pays=on_cuda and family.fixed_prompt_length,
            obstacle=_compile_obstacle(repeated_blocks(denoiser), device),
        ),
        cuda_graphs=_decide(wanted.cuda_graphs, pays=on_cuda, obstacle=_graphs_obstacle(family)),
        decode_stream=_decide(
            wanted.decode_stream, pays=on_cuda, obstacle=None if on_cuda else _NO_STREAMS
        ),
        vae_tiling=_tiling(wanted.vae_tiling, family.vae.model),
    )


def warm_buckets(
    family: Family, sizes: Iterable[tuple[int, int]] = (), rows: int = 16
) -> Iterator[int]:
    """Compiles or captures one batch bucket a slice, up to ``rows``; yields it.

    At the model's default size and at ``sizes`` of (width, height) in pixels; other shapes run
    uncompiled, in the whole process, so that no request waits for a compiler. Where memory ends,
    larger buckets are left out: the engine halves such a batch. A model that does not compile runs
    uncompiled, with a warning.
    """
    family.captures = True
    model = family.description
    shapes = [(model.default_width, model.default_height), *sizes]
    for bucket in sorted(each for each in family.batch_buckets if each <= rows):
        stance = "eager_on_recompile"
        try:
            with (
                torch.inference_mode(),
                torch.compiler.set_stance("default"),
                torch._dynamo.config.patch(recompile_limit=_COMPILED_SHAPES),
            ):
                for width, height in shapes:
                    _run_bucket(family, bucket, width, height)
        except torch.OutOfMemoryError:
            logger.warning("No memory for %d rows; batches stay below.", bucket)
            return
        except torch._dynamo.exc.TorchDynamoException as error:
            logger.warning("Nothing is compiled; set compile to 'never': %s", error)
            stance = "force_eager"
            return
        finally:
            torch.compiler.set_stance(stance)
        yield bucket


def repeated_blocks(part: Any) -> list[nn.Module]:
    """The blocks that a denoiser is made of: what diffusers compiles, or its ModuleLists'.

    None of another part of a pipeline.
    """
    names = getattr(part, "_repeated_blocks", None) or {
        type(block).__name__ for block in getattr(part, "transformer_blocks", ())
    }
    return [each for each in part.modules() if type(each).__name__ in names] if names else []


def _run_bucket(family: Family, rows: int, width: int, height: int) -> None:
    """Three times: to compile, to capture, to replay. Without guidance a picture is one row."""
    params = plain_params(family.description, guidance_scale=0.0, size=(width, height))
    for _ in range(3):
        trajectory = family.prepare(params, family.encode(params))
        predictions = family.denoise([trajectory] * rows)
        predictions[0].sum().item()  # waits for the device


def check_speed_ups(wanted: Acceleration, device: torch.device, dtype: torch.dtype) -> None:
    """Raises AccelerationError for one that was asked for and that no model can have there."""
    check_float8(wanted.float8, device, dtype)
    choose_attention(wanted.attention, device, dtype)
    if device.type == "cuda":
        return
    for asked, obstacle in (
        (wanted.cuda_graphs, _NO_GRAPHS),
        (wanted.decode_stream, _NO_STREAMS),
    ):
        _decide(asked, pays=False, obstacle=obstacle)


def _decide(wanted: Use, *, pays: bool, obstacle: str | None = None) -> Use:
    if wanted is Use.ALWAYS and obstacle is not None:
        raise AccelerationError(obstacle)
    on = wanted is Use.ALWAYS or (wanted is Use.AUTO and pays and obstacle is None)
    return Use.ALWAYS if on else Use.NEVER


def _compile_obstacle(blocks: list[nn.Module], device: torch.device) -> str | None:
    if not blocks:
        return "The denoiser has no repeated blocks to compile; set compile to 'never'."
    if device.type == "cuda" and find_spec("triton") is None:
        return "torch.compile needs triton on CUDA; pip install triton, or set compile to 'never'."
    if device.type == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
        return "torch.compile needs a C++ compiler; install g++, or set compile to 'never'."
    return None


def _graphs_obstacle(family: Family) -> str | None:
    if family.device.type != "cuda":
        return _NO_GRAPHS
    if not family.fixed_prompt_length:
        return (
            "Prompts of this model differ in length, so that nearly every batch would need a CUDA"
            " graph of its own; set cuda_graphs to 'never'."
        )
    return None


def _tiling(wanted: Use, vae: Any) -> Use:
    """AUTO is decided anew for each picture."""
    if hasattr(vae, "tiled_decode"):
        return wanted
    return _decide(
        wanted,
        pays=False,
        obstacle=f"{type(vae).__name__} cannot decode in tiles; set vae_tiling to 'never'.",
    )


def _accelerate_whole_calls(model: WholeCall, wanted: Acceleration) -> Acceleration:
    """A pipeline that is called whole can be compiled if asked for, and has no other speed-up.

    Its calls come in any batch size, so blocks are compiled for all at once, in the first call.
    Raises AccelerationError.
    """
    asked = [name for name in wanted.__slots__ if getattr(wanted, name) is Use.ALWAYS]
    asked += ["float8"] if wanted.float8 is not Float8.NEVER else []
    if refused := [name for name in asked if name != "compile"]:
        raise AccelerationError(
            f"A pipeline that is called whole cannot have {' and '.join(refused)}; leave it out."
        )
    if asked:
        components = model.pipeline.components.values()
        blocks = [block for part in components for block in repeated_blocks(part)]
        if obstacle := _compile_obstacle(blocks, model.device):
            raise AccelerationError(obstacle)
        for block in blocks:
            block.compile(dynamic=True)
    return Acceleration(
        attention=AttentionBackend.SDPA,
        channels_last=Use.NEVER,
        vae_channels_last=Use.NEVER,
        compile=wanted.compile if asked else Use.NEVER,
        cuda_graphs=Use.NEVER,
        batch_buckets=(),
        decode_stream=Use.NEVER,
        vae_tiling=Use.NEVER,
        prompt_cache_bytes=0,
    )
