"""The models served."""

from __future__ import annotations

from serve.api.examples.example import Example
from serve.jobs.errors import ModelNotFound

_MODEL = {
    "id": "sfumato-embedded",
    "object": "model",
    "created": 1_767_225_600,
    "owned_by": "sfumato",
    "aliases": ["dall-e-3"],
    "loras": ["ink", "pastel"],
    "controlnets": ["edges"],
    "schedulers": ["default", "ddim", "euler", "dpmpp_2m", "lcm"],
    "default_size": "64x64",
    "size_multiple": 8,
    "max_pixels": 1_048_576,
    "max_side": None,
    "default_steps": 20,
    "max_steps": 150,
    "default_guidance_scale": 3.0,
    "takes_image": True,
    "needs_image": False,
    "needs_mask": False,
    "max_clip_skip": 3,
    "output_formats": ["png", "webp", "jpeg"],
}

TAGS = {"models": "What can be asked for, as OpenAI lists it."}

EXAMPLES = {
    "listModels": Example(responses={200: {"object": "list", "data": [_MODEL]}}),
    "getModel": Example(
        parameters={"model_id": "sfumato-embedded"},
        responses={200: _MODEL},
        errors=(
            ModelNotFound(
                "The model 'dall-e-2' is not served here; use 'sfumato-embedded'.", param="model"
            ),
        ),
    ),
}
