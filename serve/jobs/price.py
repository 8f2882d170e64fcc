"""What a picture will cost, predicted from measurements of the replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import structlog

from pipelines.diffusion.batching.cost import CostModel, Profile
from pipelines.diffusion.batching.slack import SOFT_DEADLINE
from serve.jobs.request import JobRequest
from serve.tables import CostProfile

log = structlog.get_logger(__name__)

_MAX_BATCH = 8  # of a model that no replica has measured yet


@dataclass(frozen=True, slots=True)
class Price:
    """Of one picture of a job, in seconds.

    ``device`` is what it takes of a device whose steps are full; ``alone`` is how long it takes by
    itself, from prompt to picture.
    """

    device: float
    alone: float

    def begin_within(self, deadline_s: float | None) -> float:
        """Seconds from submission until it should begin, to be done when it is due.

        Without a deadline that is after a few times its own seconds, as in the step batch. Below
        zero, a deadline can't be met.
        """
        due = SOFT_DEADLINE * self.alone if deadline_s is None else deadline_s
        return due - self.alone


class PriceList:
    """Prices by model; a model that no replica has measured yet has default ones."""

    def __init__(self, rows: Sequence[CostProfile] = ()) -> None:
        self._models = {row.model: (_cost_of(row), row.max_batch) for row in rows}

    def __contains__(self, model: str) -> bool:
        """Whether a replica has measured it, and so has drawn a first picture with it."""
        return model in self._models

    def price(self, request: JobRequest) -> Price:
        """Of each of the request's pictures."""
        cost, max_batch = self._models.get(request.model) or (CostModel(), _MAX_BATCH)
        # A source only shortens the way: its pixels are not needed for the price.
        first, hires = request.sampling(0), request.hires
        if hires is None:
            passes = [replace(first, num_inference_steps=request.made_steps)]
        else:
            second = request.second_sampling(0, hires, None)
            passes = [first, replace(second, num_inference_steps=hires.made_steps)]
        most = max_batch * cost.guided_rows
        return Price(
            device=sum(cost.device_seconds(each, most) for each in passes),
            alone=sum(map(cost.predict, passes)),
        )


def _cost_of(row: CostProfile) -> CostModel:
    """As measured, or a default where another version wrote what this one cannot read."""
    try:
        return CostModel.from_profile(cast("Profile", row.profile))
    except (KeyError, TypeError, ValueError) as error:
        log.warning("prices.profile_unreadable", model=row.model, error=repr(error))
        return CostModel()
