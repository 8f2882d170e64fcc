"""The models served."""

from __future__ import annotations

from serve.api.errors import ModelNotFound
from serve.api.examples.example import Example

_MODEL = {
    "id": "sfumato-embedded",
    "object": "model",
    "created": 1_767_225_600,
    "owned_by": "sfumato",
}

TAGS = {"models": "What can be asked for, as OpenAI lists it."}

EXAMPLES = {
    "listModels": Example(responses={200: {"object": "list", "data": [_MODEL]}}),
    "getModel": Example(
        parameters={"model_id": "sfumato-embedded"},
        responses={200: _MODEL},
        errors=(
            ModelNotFound(
                "The model 'dall-e-3' is not served here; use 'sfumato-embedded'.", param="model"
            ),
        ),
    ),
}
