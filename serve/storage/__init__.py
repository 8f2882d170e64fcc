"""Where pictures are kept: a local folder or an S3 bucket, behind one protocol.

Objects are written once and never changed: a key names one attempt's file, so no process ever needs
to overwrite one, and one that tries gets an error.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from serve.observability.meter import UNMETERED, Meter
from serve.storage.bucket import BucketStorage
from serve.storage.folder import FolderStorage
from serve.storage.storage import (
    InvalidKey,
    InvalidStorageUrl,
    ObjectExists,
    ObjectMissing,
    Storage,
    StorageError,
    StorageForbidden,
    StorageFull,
    StorageUnavailable,
    StoredObject,
)

__all__ = [
    "InvalidKey",
    "InvalidStorageUrl",
    "ObjectExists",
    "ObjectMissing",
    "Storage",
    "StorageError",
    "StorageForbidden",
    "StorageFull",
    "StorageUnavailable",
    "StoredObject",
    "open_storage",
]


def open_storage(url: str, meter: Meter = UNMETERED, *, make: bool = True) -> Storage:
    """Opens `file:///folder` (made when missing, if ``make``) or `s3://bucket/prefix`.

    S3 credentials, region and endpoint come from the usual `AWS_*` variables or the machine's
    role. No request is made yet.

    Raises:
        InvalidStorageUrl: another kind of address.
        StorageUnavailable: the folder cannot be made or is missing, or S3's configuration is wrong.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path:
        return FolderStorage(Path(unquote(parts.path)), meter, make=make)
    if parts.scheme == "s3" and parts.netloc:
        return BucketStorage(url, meter)
    raise InvalidStorageUrl(
        f"{url!r} is no storage: give file:///folder or s3://bucket/prefix as SFUMATO_STORAGE_URL."
    )
