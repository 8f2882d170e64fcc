"""OpenAI's edits and variations: the fields of their forms, the files apart; edits as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from serve.http.strict import StrictBody, Text
from serve.jobs.picture import PictureBody
from serve.openai.generation import GenerationBody

_STRENGTH = "Above 0 to 1: the share of the denoising steps that are made, from the picture on."


class EditBody(GenerationBody):
    """OpenAI's fields, and the extensions of a generation."""

    size: str | None = Field(
        None,
        description="`auto`, the picture's own shape, or as in `512x512`, which it then covers.",
    )
    input_fidelity: Literal["high", "low"] | None = Field(
        None, description="How much of the picture stays; a word for `strength`."
    )
    strength: float | None = Field(None, description=_STRENGTH)

    def default_strength(self, *, mask: bool) -> float:
        """Where none is given. What a mask keeps is kept anyway, so that it leaves more freedom."""
        if self.input_fidelity == "high":
            return 0.8 if mask else 0.5
        return 1.0 if mask else 0.8


class PictureReference(StrictBody):
    """A picture that comes within JSON."""

    other_names: ClassVar[Mapping[str, str]] = {
        "b64_json": "image_url",
        "file_id": "image_url",
        "url": "image_url",
    }

    image_url: str = Field(
        description="The file as a data URL, `data:image/png;base64,…`; addresses are not fetched."
    )


class EditJson(EditBody):
    """An edit as JSON, its files as data URLs."""

    images: list[PictureReference] = Field(
        min_length=1, description="PNG, JPEG or WebP. One picture is taken."
    )
    mask: PictureReference | None = Field(
        None, description="PNG as large as the image; where its alpha is 0 the picture is edited."
    )


class VariationBody(PictureBody):
    """OpenAI's fields, and the extensions of a generation; a prompt is one of them."""

    prompt: Text = Field("", description="Where the variations shall lead; empty by default.")
    size: str | None = Field(
        None,
        description="`auto`, the picture's own shape, or as in `512x512`, which it then covers.",
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        None, description="`b64_json`, the default, or `url`: signed, good for an hour or as set."
    )
    user: Text | None = Field(None, max_length=512, description="Accepted, without effect.")
    strength: float | None = Field(None, description=f"{_STRENGTH} 0.6 where left out.")
