"""Where clients find this service: perhaps under a path, behind a proxy that takes it away."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from serve.http.provided import provided
from serve.settings import Settings


def base_url(request: Request) -> str:
    """What every URL of this service begins with, without a slash at its end."""
    told = provided(request, Settings).http.public_url
    return (told or str(request.base_url)).rstrip("/")


def path_to(path: str, request: Request) -> str:
    """The path of a `Location`, which clients resolve against this host."""
    return urlsplit(base_url(request)).path + path
