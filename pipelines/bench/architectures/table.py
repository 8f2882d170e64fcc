"""Which functions build which architecture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pipelines.bench.architectures import flux, stable_diffusion
from pipelines.bench.architectures import stable_diffusion_3 as sd3
from pipelines.bench.architectures import stable_diffusion_xl as sdxl
from pipelines.bench.dtype import default_dtype
from pipelines.bench.plan import ArchitectureName

# What makes the noise scheduler, and what makes the pipeline with it.
_BUILDERS: dict[ArchitectureName, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    ArchitectureName.SMALL: (stable_diffusion.small_scheduler, stable_diffusion.small),
    ArchitectureName.SD15: (stable_diffusion.sd15_scheduler, stable_diffusion.sd15),
    ArchitectureName.SDXL: (sdxl.sdxl_scheduler, sdxl.sdxl),
    ArchitectureName.SD3_MEDIUM: (sd3.sd3_medium_scheduler, sd3.sd3_medium),
    ArchitectureName.FLUX_DEV: (flux.flux_dev_scheduler, flux.flux_dev),
}


def build_pipeline(name: ArchitectureName, device: torch.device, dtype: torch.dtype) -> Any:
    """A diffusers pipeline, its weights drawn where they will stay and in their own dtype.

    So 12 billion parameters never pass through the host, nor through float32. On the meta device
    there are no weights, only their shapes.
    """
    make_scheduler, make_pipeline = _BUILDERS[name]
    scheduler = make_scheduler()  # its tables belong on the host, in float32
    with device, default_dtype(dtype):
        torch.manual_seed(0)
        return make_pipeline(scheduler)


def denoiser_of(pipeline: Any) -> Any:
    """The UNet or transformer."""
    return pipeline.unet if "unet" in pipeline.components else pipeline.transformer
