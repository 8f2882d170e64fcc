"""The errors that any route may answer with, by status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serve.access.auth import MissingKey
from serve.access.keys import InvalidKey
from serve.access.ledger import InsufficientQuota
from serve.access.rate_limit import RateLimitExceeded
from serve.database import DatabaseUnavailable
from serve.errors import ServiceError
from serve.http.errors import InvalidCursor
from serve.http.problem import Problem
from serve.http.problems import TOO_LARGE, problem_of
from serve.jobs.errors import Overloaded
from serve.moderation.errors import ContentPolicyViolation, ModerationUnavailable
from serve.storage import StorageUnavailable


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


def body_beyond(limit: int) -> Problem:
    """What a body of more bytes is answered with."""
    return Problem(
        title="Request Entity Too Large",
        status=413,
        detail=f"The body is larger than {limit} bytes.",
        code=TOO_LARGE,
    )


INVALID_JSON = Problem(
    title="Invalid request",
    status=400,
    detail="The body is not valid JSON: Expecting value at 11.",
    code="invalid_json",
)
TOO_SLOW = Problem(
    title="Request Timeout",
    status=408,
    detail="The body did not come within 60 seconds.",
    code="body_too_slow",
)
TOO_LONG = Problem(
    title="Request-URI Too Long",
    status=414,
    detail="Path and query must have 8192 bytes at most.",
    code="uri_too_long",
)
HEADERS_TOO_LARGE = Problem(
    title="Request Header Fields Too Large",
    status=431,
    detail="A request has 100 headers and 16384 bytes of them at most.",
    code="headers_too_large",
)
BEYOND = invalid("limit", "Input should be less than or equal to 100")
INVALID_CURSOR = InvalidCursor(
    "after must be `next` of the page before, with the same filters; leave it out to begin with"
    " the newest.",
    param="after",
)
DATABASE_AWAY = DatabaseUnavailable("The database does not answer.")
STORAGE_AWAY = problem_of(StorageUnavailable("The storage does not answer."))
_TOO_MANY_REQUESTS = RateLimitExceeded(
    "This tenant may use 120 requests a minute, 120 of them at once; try again in 0.4 s.",
    retry_after_s=1,
)

BUSY: Sequence[ServiceError | Problem] = (
    Overloaded(
        "This job would wait about 640 s for its turn, and 600 s are the most that is accepted;"
        " try again later.",
        retry_after_s=40,
    ),
    _TOO_MANY_REQUESTS,
    RateLimitExceeded(
        "This tenant may use 60 predicted GPU seconds a minute, 120 of them at once; try again in"
        " 12.5 s.",
        retry_after_s=13,
    ),
    InsufficientQuota(
        "Of this month's 100000 GPU seconds 12.5 are left, and this needs 38.2; the quota is"
        " renewed on 2026-12-01 (UTC), and an operator can raise it.",
        retry_after_s=584_100,
    ),
)
"""Why pictures are not drawn now."""
REFUSED_PROMPT = ContentPolicyViolation(
    "The prompt is against this service's content policy; change it and try again.",
    param="prompt",
)
REFUSED_PICTURE = ContentPolicyViolation(
    "The picture that was drawn is against this service's content policy; change the prompt, or"
    " try another seed."
)
UNJUDGED = ModerationUnavailable(
    "The prompt could not be checked against the content policy; try again later.",
    retry_after_s=5,
)

COMMON: Mapping[int, Sequence[ServiceError | Problem]] = {
    400: (INVALID_JSON,),
    401: (
        MissingKey("Send an API key: `Authorization: Bearer sfm_…`, or `X-API-Key`."),
        InvalidKey("This API key is not valid."),
    ),
    408: (TOO_SLOW,),
    413: (body_beyond(1024 * 1024),),
    414: (TOO_LONG,),
    422: (BEYOND,),
    429: (_TOO_MANY_REQUESTS,),
    431: (HEADERS_TOO_LARGE,),
    503: (DATABASE_AWAY,),
}

INTERNAL = Problem(
    title="Internal error",
    status=500,
    detail="The server failed to answer; the log tells more under this request's id.",
    code="internal_error",
)
