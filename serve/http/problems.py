"""Failures as answers: OpenAI's error under ``/v1/images``, problem+json elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from serve.database import DatabaseUnavailable
from serve.errors import ServiceError
from serve.http.errors import NothingToCome
from serve.http.fields import printable
from serve.http.http_route import route_path
from serve.storage import StorageUnavailable

log = structlog.get_logger(__name__)

REQUEST_ID = "X-Request-ID"
TOO_LARGE = "body_too_large"  # the standard library's name for 413 changed with Python 3.13
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Strict-Transport-Security is not among them: only a proxy that ends TLS knows of TLS."""
_INVALID = {
    "json_invalid": "invalid_json",
    "missing": "missing_field",
    "unknown_field": "unknown_field",
}
_OPENAI_TYPES: dict[int | str, str] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    "insufficient_quota": "insufficient_quota",
}
"""By status; a code of its own goes first."""


class Problem(BaseModel):
    """RFC 9457: every error outside of ``/v1/images``."""

    type: str = "about:blank"
    title: str = Field(examples=["No such job"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no job 019ab2f4-6c1e-7d30-9a52-3f8e1c7b4d60."])
    code: str = Field(examples=["job_not_found"])
    param: str | None = None
    request_id: str | None = None


INTERNAL_ERROR = Problem(
    title="Internal error",
    status=500,
    detail="The server failed to answer; the log tells more under this request's id.",
    code="internal_error",
)


class OpenAIErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """OpenAI's error: every one under ``/v1/images``."""

    error: OpenAIErrorDetail


def speaks_openai(path: str) -> bool:
    """Whether errors of this path take OpenAI's shape."""
    return path == "/v1/images" or path.startswith("/v1/images/")


def problem_of(error: ServiceError | StorageUnavailable) -> Problem:
    """The error as a client sees it: without the address of a database or a store that is away."""
    if isinstance(error, StorageUnavailable):
        return Problem(
            title="The storage does not answer",
            status=503,
            detail="The picture store does not answer; try again.",
            code="storage_unavailable",
        )
    away = isinstance(error, DatabaseUnavailable)
    return Problem(
        title=error.title,
        status=error.status,
        detail="The database does not answer; try again." if away else printable(error.message),
        code=error.code,
        param=printable(error.param) if error.param else None,
    )


def openai_error(problem: Problem) -> OpenAIError:
    """The problem in OpenAI's shape."""
    kind = "invalid_request_error" if problem.status < 500 else "server_error"
    detail = OpenAIErrorDetail(
        message=problem.detail,
        type=_OPENAI_TYPES.get(problem.code) or _OPENAI_TYPES.get(problem.status, kind),
        param=problem.param,
        code=problem.code,
    )
    return OpenAIError(error=detail)


def refusal(status: int, code: str, detail: str) -> Problem:
    """A problem with the title of its status."""
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, code=code)


def answer(problem: Problem, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as the answer to a request, in the shape that the path's clients read."""
    openai = speaks_openai(route_path(scope))
    request_id = scope.get("state", {}).get("request_id")
    structlog.contextvars.bind_contextvars(code=problem.code)  # for the request's line
    named = problem.model_copy(update={"request_id": request_id})
    status, body = status_and_body(named, openai=openai)
    media_type = "application/json" if openai else "application/problem+json"
    return JSONResponse(body, status_code=status, headers=headers, media_type=media_type)


def status_and_body(problem: Problem, *, openai: bool) -> tuple[int, dict[str, Any]]:
    """The problem in OpenAI's shape or its own."""
    if not openai:
        return problem.status, problem.model_dump(exclude_none=True)
    # OpenAI's clients know 400, not 422, as the fault of a field.
    status = 400 if problem.status == HTTPStatus.UNPROCESSABLE_ENTITY else problem.status
    return status, openai_error(problem).model_dump()


async def _service_error(request: Request, error: ServiceError) -> Response:
    if isinstance(error, DatabaseUnavailable):
        log.error("api.database_unavailable", error=error.message)
    return answer(problem_of(error), request.scope, error.headers)


async def _storage_away(request: Request, error: StorageUnavailable) -> Response:
    log.error("api.storage_unavailable", error=str(error))
    return answer(problem_of(error), request.scope, {"Retry-After": "2"})


async def _nothing_to_come(_request: Request, _error: NothingToCome) -> Response:
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def _http_error(request: Request, error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    details = {
        404: f"There is nothing at {request.scope['path']}.",
        405: f"{request.method} is not possible at {request.scope['path']}.",
    }
    code = TOO_LARGE if status == 413 else status.name.lower()
    problem = refusal(status, code, printable(details.get(status, str(error.detail))))
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED and (allowed := _allowed(request)):
        headers["Allow"] = allowed
    return answer(problem, request.scope, headers)


def _allowed(request: Request) -> str:
    """The verbs of the path; a route by itself knows only its own, and pages are not described."""
    route = request.scope.get("route")
    path = getattr(route, "path_format", None)
    described = request.app.openapi()["paths"].get(path, ())
    verbs = {verb.upper() for verb in described} | set(getattr(route, "methods", None) or ())
    if "GET" in verbs:
        verbs.add("HEAD")
    return ", ".join(sorted(verbs))


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    status = 400 if first["type"] == "json_invalid" else 422
    problem = Problem(
        title="Invalid request",
        status=status,
        detail=printable(_sentence(first)),
        code=_INVALID.get(first["type"], "invalid_value"),
        param=_param(first),
    )
    return answer(problem, request.scope)


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("api.unexpected", path=request.scope["path"], exc_info=error)
    # This handler stands outside of the layers that every other answer passes.
    request_id = request.scope.get("state", {}).get("request_id")
    named = {REQUEST_ID: request_id} if request_id else {}
    return answer(INTERNAL_ERROR, request.scope, {**SECURITY_HEADERS, **named})


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    ServiceError: _service_error,
    StorageUnavailable: _storage_away,
    NothingToCome: _nothing_to_come,
    RequestValidationError: _invalid,
    HTTPException: _http_error,
    Exception: _unexpected,
}
"""What answers every failure of the app's routes."""


def _param(error: Mapping[str, Any]) -> str | None:
    field = error.get("ctx", {}).get("field")
    names = [str(part) for part in error["loc"][1:]]
    if error["type"] == "json_invalid":
        return None
    name = field or ".".join(names)
    return printable(name, 100) if name else None


def _sentence(error: Mapping[str, Any]) -> str:
    if error["type"] == "json_invalid":
        what, place = error["ctx"]["error"], error["loc"][-1]
        hint = "; nothing may follow the JSON" if what == "Extra data" else ""
        return f"The body is not valid JSON: {what} at {place}{hint}."
    if len(error["loc"]) == 1 and error["loc"][0] == "body":
        known = error["type"] in ("unknown_field", "value_error")
        if not known:
            return "The body must be a JSON object, sent as Content-Type: application/json."
    message = str(error["msg"]).removeprefix("Value error, ")
    param = _param(error)
    if not param or re.search(rf"(?<!\w){re.escape(param)}(?!\w)", message):
        return message
    return f"{param}: {message}"
