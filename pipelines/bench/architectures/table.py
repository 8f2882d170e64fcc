"""Which functions build which architecture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pipelines.bench.architectures import flux, stable_diffusion, tiny, z_image
from pipelines.bench.architectures import stable_diffusion_3 as sd3
from pipelines.bench.architectures import stable_diffusion_xl as sdxl
from pipelines.bench.dtype import default_dtype
from pipelines.bench.plan import ArchitectureName

_Build = Callable[[Any], Any]

# What makes the noise scheduler, what makes the pipeline with it, and what makes a tiny one.
_BUILDERS: dict[ArchitectureName, tuple[Callable[[], Any], _Build, _Build]] = {
    ArchitectureName.SMALL: (
        stable_diffusion.small_scheduler,
        stable_diffusion.small,
        tiny.sd15,
    ),
    ArchitectureName.SD15: (stable_diffusion.sd15_scheduler, stable_diffusion.sd15, tiny.sd15),
    ArchitectureName.SDXL: (sdxl.sdxl_scheduler, sdxl.sdxl, tiny.xl),
    ArchitectureName.SD3_MEDIUM: (sd3.sd3_medium_scheduler, sd3.sd3_medium, tiny.medium),
    ArchitectureName.FLUX_DEV: (flux.flux_dev_scheduler, flux.flux_dev, tiny.dev),
    ArchitectureName.Z_IMAGE: (z_image.z_image_scheduler, z_image.z_image, tiny.turbo),
}


def build_pipeline(
    name: ArchitectureName, device: torch.device, dtype: torch.dtype, *, narrow: bool = False
) -> Any:
    """A diffusers pipeline, its weights drawn where they will stay and in their own dtype.

    So 12 billion parameters never pass through the host, nor through float32. On the meta device
    there are no weights, only their shapes. A ``narrow`` one is tiny.
    """
    make_scheduler, make_full, make_tiny = _BUILDERS[name]
    make_pipeline = make_tiny if narrow else make_full
    scheduler = make_scheduler()  # its tables belong on the host, in float32
    with device, default_dtype(dtype):
        torch.manual_seed(0)
        return make_pipeline(scheduler)


def denoiser_of(pipeline: Any) -> Any:
    """The UNet or transformer."""
    return pipeline.unet if "unet" in pipeline.components else pipeline.transformer
