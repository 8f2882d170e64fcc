"""What an operator cannot do with a model."""

from __future__ import annotations

from serve.errors import ServiceError


class ModelExists(ServiceError):
    status = 409
    code = "model_exists"
    title = "The model is served already"
    example = "The model 'sdxl' is served already; remove it first, or take another name."


class ModelConfigured(ServiceError):
    status = 409
    code = "model_configured"
    title = "The configuration names the model"
    example = "The configuration names 'sdxl': pause it, or take it out of the configuration."


class ModelBusy(ServiceError):
    status = 409
    code = "model_busy"
    title = "The model is being given up"
    example = "The last 'sdxl' is still drawn with; try again once its pictures are done."


class PoolNotFound(ServiceError):
    status = 404
    code = "pool_not_found"
    title = "No such pool"
    example = "There is no pool 'large'; use one of default."


class LoraConfigured(ServiceError):
    status = 409
    code = "lora_configured"
    title = "The configuration names the LoRA"
    example = "The configuration has a LoRA 'ink' of 'sdxl'; take another name."


class LoraNotFound(ServiceError):
    status = 404
    code = "lora_not_found"
    title = "No such LoRA"
    example = "No LoRA 'ink' was uploaded for 'sdxl'."
