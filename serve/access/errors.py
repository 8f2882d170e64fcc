"""Expected failures of whoever asks."""

from __future__ import annotations

from serve.errors import ServiceError


class MissingKey(ServiceError):
    status = 401
    code = "missing_api_key"
    title = "No API key"
