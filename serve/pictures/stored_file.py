"""Files in storage: their keys, and what is known of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

from pipelines.imaging.postprocess import Variant

_SOURCE_KEY = re.compile(r"sources/([0-9a-f-]{36})/([0-9a-f]{64})\.png")
_LORA_KEY = re.compile(r"loras/([0-9a-f]{64})\.safetensors")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a picture, as post-processing stored it; ``size`` in bytes, ``sha256`` in hex."""

    name: str
    media_type: str
    width: int
    height: int
    size: int
    sha256: str
    storage_key: str

    @classmethod
    def of(cls, file: Variant, key: str) -> StoredFile:
        """The file, stored under that key."""
        return cls(
            name=file.name,
            media_type=file.media_type,
            width=file.width,
            height=file.height,
            size=file.size,
            sha256=file.sha256,
            storage_key=key,
        )


@dataclass(frozen=True, slots=True)
class PictureKey:
    """The key of a picture's file. It holds the attempt: no two attempts write the same file."""

    job_id: UUID
    image_id: UUID
    attempt: int
    file_name: str

    def __str__(self) -> str:
        return f"{self.job_id}/{self.image_id}/{self.attempt}/{self.file_name}"

    @classmethod
    def parse(cls, key: str) -> PictureKey | None:
        """None where the key is not one of a picture's file."""
        try:
            job_id, image_id, attempt, file_name = key.split("/")
            parsed = cls(UUID(job_id), UUID(image_id), int(attempt), file_name)
        except ValueError:
            return None
        return parsed if str(parsed) == key else None


@dataclass(frozen=True, slots=True, order=True)
class SourceKey:
    """The key of a picture that a client sent in, by the SHA-256 of its file, in hex.

    If a tenant sends the same picture twice, it is stored once.
    """

    tenant_id: UUID
    sha256: str

    def __str__(self) -> str:
        return f"sources/{self.tenant_id}/{self.sha256}.png"

    @classmethod
    def parse(cls, key: str) -> SourceKey | None:
        """None where the key is not one of a source."""
        match = _SOURCE_KEY.fullmatch(key)
        try:
            return cls(UUID(match[1]), match[2]) if match else None
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class LoraKey:
    """The key of an uploaded LoRA's file, by its SHA-256, in hex; models and names share it."""

    sha256: str

    def __str__(self) -> str:
        return f"loras/{self.sha256}.safetensors"

    @classmethod
    def parse(cls, key: str) -> LoraKey | None:
        """None where the key is not one of a LoRA's file."""
        match = _LORA_KEY.fullmatch(key)
        return cls(match[1]) if match else None
