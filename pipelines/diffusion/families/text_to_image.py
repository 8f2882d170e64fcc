"""Which of diffusers' pipelines make pictures out of text alone."""

from __future__ import annotations

import inspect

import diffusers
from diffusers import DiffusionPipeline
from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

from pipelines.diffusion.errors import UnsupportedFamilyError
from pipelines.diffusion.families.registry import native_classes

_TAKES = {"prompt", "height", "width", "num_inference_steps", "generator", "output_type"}
_FOREIGN = {"control_image", "mask_image", "num_frames", "video", "video_length"}


def text_to_image_class(class_name: str) -> type[DiffusionPipeline]:
    """diffusers' class of that name. Raises UnsupportedFamilyError if it is no such pipeline."""
    found = getattr(diffusers, class_name, None)
    lacking = getattr(found, "_backends", None)  # of the stand-ins for what cannot be imported
    if lacking:
        problem = f"needs {', '.join(lacking)}; install them or"
    elif not isinstance(found, type) or not issubclass(found, DiffusionPipeline):
        problem = f"is no pipeline of diffusers {diffusers.__version__};"
    elif not _draws_from_text(found):
        problem = "does not make pictures out of text alone;"
    else:
        return found
    raise UnsupportedFamilyError(
        f"model_index.json names {class_name!r}, which {problem} choose a model of"
        f" {', '.join(native_classes())} or of another text-to-image pipeline of diffusers."
    )


def _draws_from_text(pipeline_class: type[DiffusionPipeline]) -> bool:
    """By what the call takes; one that may take a picture needs diffusers' word for it."""
    parameters = inspect.signature(pipeline_class.__call__).parameters
    required = {
        name
        for name, each in parameters.items()
        if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD
    }
    parts = inspect.signature(pipeline_class.__init__).parameters
    return (
        parameters.keys() >= _TAKES
        and not parameters.keys() & _FOREIGN
        and required <= {"self", "prompt"}
        and "controlnet" not in parts
        and (
            "image" not in parameters
            or pipeline_class in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()
        )
    )
