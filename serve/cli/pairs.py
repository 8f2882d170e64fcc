"""The service's figures beside those of something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table


@dataclass(frozen=True, slots=True)
class Pair:
    """Both in seconds, or both in pictures a second."""

    what: str
    other: float
    served: float

    @property
    def ratio(self) -> float:
        """Served over other."""
        return self.served / self.other


def table(other: str, pairs: Sequence[Pair]) -> Table:
    """A row for each; ``other`` names what the service is beside."""
    found = Table("", other, "served", f"served / {other}")
    for each in pairs:
        found.add_row(each.what, f"{each.other:.3f}", f"{each.served:.3f}", f"{each.ratio:.2f}")
    return found


def as_json(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    return [{**asdict(each), "ratio": each.ratio} for each in pairs]
