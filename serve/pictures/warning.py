"""What a client is told beside its pictures."""

from __future__ import annotations

from pydantic import BaseModel, Field

from serve.tables import Job


class JobWarning(BaseModel):
    """Something that was asked for had not its whole effect; the picture was drawn all the same."""

    code: str = Field(
        description="`prompt_truncated`: the model reads fewer tokens than the text has."
    )
    param: str = Field(description="Which field it is about.")
    message: str


def warnings_of(job: Job) -> list[JobWarning]:
    """None before a picture of it is drawn."""
    return [JobWarning.model_validate(each) for each in job.warnings or ()]
