"""What the shapes share: they take users, rate and time from Locust's own options."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

from locust import LoadTestShape

_UNBOUNDED_S = 600.0


class Shape(LoadTestShape):
    """A share of the users over a share of the time; without `-t` ten minutes."""

    abstract = True
    use_common_options = True

    @abstractmethod
    def share(self, time: float) -> float:
        """Of the users, 0 to 1, at a share of the time, 0 to 1."""

    def tick(self) -> tuple[int, float] | None:
        """Users, and how many of them come or go a second; None ends the run."""
        options = cast(Any, self.runner).environment.parsed_options
        users, rate = options.num_users or 10, options.spawn_rate or 2.0
        passed: float = self.get_run_time()  # type: ignore[no-untyped-call]
        time = passed / (options.run_time or _UNBOUNDED_S)
        return (max(1, round(users * self.share(time))), rate) if time < 1 else None
