"""Expected failures of the API itself."""

from __future__ import annotations

from serve.errors import ServiceError


class InvalidValue(ServiceError):
    """A field whose value this service cannot take; ``param`` names it."""

    status = 422
    code = "invalid_value"
    title = "Invalid value"


class MissingField(ServiceError):
    status = 422
    code = "missing_field"
    title = "A field is missing"


class InvalidJson(ServiceError):
    status = 400
    code = "invalid_json"
    title = "Not JSON"


class JsonTooDeep(ServiceError):
    status = 400
    code = "json_too_deep"
    title = "JSON is nested too deep"


class InvalidForm(ServiceError):
    """The body is no multipart form, or none that can be read."""

    status = 400
    code = "invalid_form"
    title = "Not a form"


class InvalidCursor(ServiceError):
    status = 422
    code = "invalid_cursor"
    title = "Invalid cursor"


class ServerStopping(ServiceError):
    """Of a process that is about to end; the next one answers."""

    status = 503
    code = "stopping"
    title = "The server restarts"

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_s=5)


class NothingToCome(Exception):
    """An ended job has no event that the client has not seen; 204 keeps it from coming back."""


class ClientLeft(ServiceError):
    """Nobody reads this; the request counts under nginx's number for it."""

    status = 499
    code = "client_left"
    title = "The client left"
