"""The documented error answers of routes, for OpenAPI."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from serve.api.schemas.picture_event import CompletedImage, PartialImage
from serve.api.schemas.problem import OpenAIError, Problem

Responses = dict[int | str, dict[str, Any]]


# "default" also keeps FastAPI from telling of a 422 in a shape that never comes.


def problems(*statuses: int) -> Responses:
    """problem+json under each status, and under any other."""
    shape = {"application/problem+json": {"schema": Problem.model_json_schema()}}
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


def picture_events(description: str) -> Responses:
    """Pictures as JSON, which the route's model tells of, or as a stream of events."""
    schemas = [event.model_json_schema() for event in (PartialImage, CompletedImage)]
    content = {"text/event-stream": {"schema": {"type": "string"}, "x-events": schemas}}
    return {200: {"description": description, "content": content}}
