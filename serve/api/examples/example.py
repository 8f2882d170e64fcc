"""What is shown of one operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serve.errors import ServiceError
from serve.http.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One operation's requests and answers. Errors are the service's own types, told as they are.

    ``parameters`` are by name; ``responses`` and ``headers`` by status, of the statuses below 400.
    Whatever any route may answer (401, 413, 503…) is in ``errors.py`` and needs no repeating.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    requests: Mapping[str, Any] = field(default_factory=dict)
    """Bodies by what they show."""
    json_requests: Mapping[str, Any] = field(default_factory=dict)
    """The same as JSON, of what takes forms as well."""
    responses: Mapping[int, Any] = field(default_factory=dict)
    streams: Mapping[int, str] = field(default_factory=dict)
    """Of those that answer with Server-Sent Events, or may."""
    headers: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    errors: Sequence[ServiceError | Problem] = ()
