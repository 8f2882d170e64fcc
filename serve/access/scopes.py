"""What a key may do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from serve.errors import ServiceError
from serve.open_enum import OpenEnum


class Scope(OpenEnum):
    """Each includes those before it, but `generate` and `read`, which are apart."""

    GENERATE = "generate"
    """Submit jobs and cancel them."""
    READ = "read"
    """See jobs, pictures, events and usage."""
    ADMIN = "admin"
    """Manage the tenant's keys and webhooks."""
    OPERATOR = "operator"
    """Manage every tenant: its weight, its limits, its keys."""


_INCLUDED = {
    Scope.ADMIN: frozenset({Scope.GENERATE, Scope.READ}),
    Scope.OPERATOR: frozenset({Scope.GENERATE, Scope.READ, Scope.ADMIN}),
}
DEFAULT_SCOPES = frozenset({Scope.GENERATE, Scope.READ})


def with_included(scopes: Iterable[Scope | str]) -> frozenset[Scope]:
    """The scopes and all that they include, without those that only a newer version knows."""
    given = frozenset(map(Scope.read, scopes)).intersection(Scope)
    return given.union(*(_INCLUDED.get(scope, frozenset()) for scope in given))


class InsufficientScope(ServiceError):
    """``scope`` is the one that the key lacks."""

    status: ClassVar[int] = 403
    code: ClassVar[str] = "insufficient_scope"
    title: ClassVar[str] = "The key may not do this"

    def __init__(self, scope: Scope) -> None:
        super().__init__(f"This needs a key with the scope `{scope}`, which this key lacks.")
        self.scope = scope

    @property
    def headers(self) -> dict[str, str]:
        """The scope that is missing."""
        return {"WWW-Authenticate": f'Bearer error="{self.code}", scope="{self.scope}"'}
