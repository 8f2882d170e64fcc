"""Where in storage a file of a picture lies."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class PictureKey:
    """The key holds the attempt: no two attempts ever write the same file."""

    job_id: UUID
    image_id: UUID
    attempt: int
    file_name: str

    def __str__(self) -> str:
        return f"{self.job_id}/{self.image_id}/{self.attempt}/{self.file_name}"

    @classmethod
    def parse(cls, key: str) -> PictureKey | None:
        """None where the key is not of a picture, and somebody else's therefore."""
        try:
            job_id, image_id, attempt, file_name = key.split("/")
            parsed = cls(UUID(job_id), UUID(image_id), int(attempt), file_name)
        except ValueError:
            return None
        return parsed if str(parsed) == key else None
