"""The answer of a layer that lets a request go no further."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Scope

from serve.http.problems import Problem, answer
from serve.http.route_path import route_path


def refusal(
    scope: Scope,
    status: HTTPStatus,
    code: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error in the shape that the path's clients read."""
    return answer(
        Problem(title=status.phrase, status=status, detail=detail, code=code),
        path=route_path(scope),
        request_id=scope.get("state", {}).get("request_id"),
        headers=headers,
    )
