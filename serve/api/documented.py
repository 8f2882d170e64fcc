"""The documented error answers of routes, for OpenAPI."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from serve.api.schemas.problem import OpenAIError

Responses = dict[int | str, dict[str, Any]]
PROBLEM = "#/components/schemas/Problem"


# "default" also keeps FastAPI from telling of a 422 in a shape that never comes.


def problems(*statuses: int) -> Responses:
    """problem+json under each status, and under any other."""
    shape = {"application/problem+json": {"schema": {"$ref": PROBLEM}}}
    return {
        **{
            status: {"description": HTTPStatus(status).phrase, "content": shape}
            for status in statuses
        },
        "default": {"description": "Any other error", "content": shape},
    }


def openai_errors(*statuses: int) -> Responses:
    """OpenAI's error under each status, and under any other."""
    return {
        **{
            status: {"description": HTTPStatus(status).phrase, "model": OpenAIError}
            for status in statuses
        },
        "default": {"description": "Any other error", "model": OpenAIError},
    }
