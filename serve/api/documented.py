"""The documented error answers of routes, for OpenAPI."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from serve.api.schemas.problem import OpenAIError, Problem

Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int) -> Responses:
    """problem+json under each status."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
        }
        for status in statuses
    }


def openai_errors(*statuses: int) -> Responses:
    """OpenAI's error under each status."""
    return {
        status: {"description": HTTPStatus(status).phrase, "model": OpenAIError}
        for status in statuses
    }
