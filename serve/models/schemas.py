"""Models as operators send and see them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serve.http.fields import StrictBody
from serve.models.changes import ModelState, UploadedLora
from serve.settings import FurtherModelSettings, Name, PoolName


class NewModel(FurtherModelSettings):
    """A model that is to be served: what one of the configuration has, its name and its pool."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "sdxl", "path": "/models/sdxl", "max_steps": 60}]}
    )

    name: Name
    """What clients call it."""
    pool: PoolName | None = None
    """The kind of replica that is to draw with it; unset, that of the default model."""

    @property
    def settings(self) -> FurtherModelSettings:
        """What a model of the configuration has."""
        fields = {name: getattr(self, name) for name in self.model_fields_set - {"name", "pool"}}
        return FurtherModelSettings(**fields)


class ModelChangeBody(StrictBody):
    """Pauses a model, or has it go on."""

    paused: bool = Field(description="Whether it takes no jobs and draws nothing of its queue.")


class LoraStatus(BaseModel):
    """A LoRA as an operator sees it; the last three fields are of those that were uploaded."""

    name: str = Field(examples=["ink"])
    configured: bool = Field(description="Whether the configuration names it.", examples=[False])
    sha256: str | None = Field(None, description="Of the file, in hex.")
    size: int | None = Field(None, description="Of the file, in bytes.", examples=[151_112_480])
    since: datetime | None = Field(None, description="When this file was uploaded.")

    @classmethod
    def of(cls, lora: UploadedLora) -> Self:
        return cls(
            name=lora.name,
            configured=False,
            sha256=lora.sha256,
            size=lora.size,
            since=lora.uploaded_at,
        )


class ModelStatus(BaseModel):
    """A model as an operator sees it."""

    name: str = Field(examples=["sdxl"])
    pool: str = Field(examples=["default"])
    path: str = Field(examples=["/models/sdxl"])
    state: ModelState
    since: datetime | None = Field(description="When it was added, paused or resumed, if ever.")
    configured: bool = Field(description="Whether the configuration names it.")
    queued: int = Field(description="Pictures of it that wait.", examples=[12])
    running: int = Field(description="Pictures of it that are drawn.", examples=[8])
    replicas: int = Field(description="Replicas of its pool.", examples=[2])
    ready: int = Field(description="Those of them that have taken it up.", examples=[2])
    error: str | None = Field(description="Why a replica could not take it up.", examples=[None])
    loras: list[LoraStatus] = Field(description="What requests may name, uploaded or configured.")


class ModelStatusList(BaseModel):
    """Every model, the default one first."""

    data: list[ModelStatus]
    declaration_error: str | None = Field(
        description="Why the ingress that answers could not follow Serve's `user_config`.",
        examples=[None],
    )


class Declaration(BaseModel):
    """Serve's ``user_config``: models beside the configuration's, and those that are paused."""

    model_config = ConfigDict(extra="forbid")

    models: list[NewModel] = []
    paused: list[Name] = []

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        """``models`` may be a mapping by name, as in the configuration file."""
        if isinstance(given, dict) and isinstance(given.get("models"), dict):
            models = [
                {"name": name, **model} if isinstance(model, dict) else model  # refused below
                for name, model in given["models"].items()
            ]
            return {**given, "models": models}
        return given
