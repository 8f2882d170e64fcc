"""The errors that any route may answer with, by status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serve.api.errors import MissingKey
from serve.api.problems import TOO_LARGE
from serve.api.schemas.problem import Problem
from serve.database import DatabaseUnavailable
from serve.errors import ServiceError
from serve.jobs.errors import Overloaded
from serve.security.keys import InvalidKey


def invalid(param: str, what: str) -> Problem:
    """What a value of another type or size is answered with."""
    return Problem(
        title="Invalid request",
        status=422,
        detail=f"{param}: {what}",
        code="invalid_value",
        param=param,
    )


def no_id(param: str) -> Problem:
    """What something else than a UUID is answered with."""
    return invalid(
        param,
        "Input should be a valid UUID, invalid length: expected length 32 for simple format, found"
        " 4",
    )


COMMON: Mapping[int, Sequence[ServiceError | Problem]] = {
    400: (
        Problem(
            title="Invalid request",
            status=400,
            detail="The body is not valid JSON: Expecting value at 11.",
            code="invalid_json",
        ),
    ),
    401: (
        MissingKey("Send an API key: `Authorization: Bearer sfm_…`, or `X-API-Key`."),
        InvalidKey("This API key is not valid."),
    ),
    413: (
        Problem(
            title="Request Entity Too Large",
            status=413,
            detail="The body is larger than 1048576 bytes.",
            code=TOO_LARGE,
        ),
    ),
    422: (invalid("limit", "Input should be less than or equal to 100"),),
    429: (
        Overloaded(
            "About 640 s of work wait already, and 600 s are the most that is accepted; try again"
            " later.",
            retry_after_s=40,
        ),
    ),
    503: (DatabaseUnavailable("The database does not answer."),),
}

INTERNAL = Problem(
    title="Internal error",
    status=500,
    detail="The server failed to answer; the log tells more under this request's id.",
    code="internal_error",
)
