"""From an address to a storage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from serve.storage.bucket import BucketStorage
from serve.storage.errors import InvalidStorageUrl
from serve.storage.folder import FolderStorage

if TYPE_CHECKING:
    from serve.storage.protocol import Storage


def open_storage(url: str, *, make: bool = True) -> Storage:
    """Opens `file:///folder` (made when missing, if ``make``) or `s3://bucket/prefix`.

    S3 credentials, region and endpoint come from the usual `AWS_*` variables or the machine's
    role. No request is made yet.

    Raises:
        InvalidStorageUrl: another kind of address.
        StorageUnavailable: the folder cannot be made or is missing, or S3's configuration is wrong.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path:
        return FolderStorage(Path(unquote(parts.path)), make=make)
    if parts.scheme == "s3" and parts.netloc:
        return BucketStorage(url)
    raise InvalidStorageUrl(
        f"{url!r} is no storage: give file:///folder or s3://bucket/prefix as SFUMATO_STORAGE_URL."
    )
