"""How many WebSockets an ingress has, and how many more it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

MAX_STRANGERS = 200
"""Connections at once of which it is not known yet whose they are."""


class NoRoom(Exception):
    """So many are open already; the text is for the client."""


class OpenSockets:
    """Of one process; ``most_per_tenant`` is the bound for each tenant."""

    def __init__(self, most_per_tenant: int) -> None:
        self._most_per_tenant = most_per_tenant
        self._strangers = 0
        self._of_tenant: Counter[UUID] = Counter()

    @contextmanager
    def stranger(self) -> Iterator[None]:
        """While it is asked for its key.

        Raises:
            NoRoom: others are asked already.
        """
        if self._strangers >= MAX_STRANGERS:
            raise NoRoom("Too many connections wait for their keys; connect again.")
        self._strangers += 1
        try:
            yield
        finally:
            self._strangers -= 1

    @contextmanager
    def of(self, tenant_id: UUID) -> Iterator[None]:
        """While it follows events.

        Raises:
            NoRoom: the tenant has as many as it may.
        """
        if self._of_tenant[tenant_id] >= self._most_per_tenant:
            raise NoRoom(f"{self._most_per_tenant} connections are open; close some.")
        self._of_tenant[tenant_id] += 1
        try:
            yield
        finally:
            self._of_tenant[tenant_id] -= 1
            if not self._of_tenant[tenant_id]:
                del self._of_tenant[tenant_id]
