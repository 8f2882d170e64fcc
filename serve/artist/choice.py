"""Keeps the best of an autonomous job's pictures."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from pipelines.imaging.critique import Critique
from serve.artist import repository
from serve.database import Session
from serve.jobs.why import Verdict
from serve.pictures.repository import delete_pictures
from serve.tables import Job


async def keep_best(session: Session, job: Job) -> Verdict | None:
    """Mark all but the best of the job's pictures as deleted, and say so in its ``why``.

    The job's row must be locked, and its last picture written: that happens once. The sweeper
    deletes the files. None if its client has deleted every picture.
    """
    pictures = await repository.kept_pictures(session, job.id)
    if not pictures or job.why is None:
        return None
    scores = {picture.index: _score(picture.critique) for picture in pictures}
    best = max(pictures, key=lambda picture: (scores[picture.index], -picture.index))
    for picture in pictures:
        if picture is not best:
            await delete_pictures(session, job_id=job.id, image_id=picture.id)
    verdict = Verdict(
        kept=best.index,
        scores={index: round(score, 4) for index, score in scores.items() if score > -inf},
    )
    job.why = {**job.why, "verdict": verdict.model_dump(mode="json")}
    return verdict


def _score(critique: Mapping[str, float] | None) -> float:
    """The least for a picture that a replica of an earlier version stored."""
    return -inf if critique is None else Critique(**critique).score
