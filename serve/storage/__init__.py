"""Where pictures are kept: a local folder or an S3 bucket, behind one protocol.

Objects are written once and never changed: a key names one attempt's file, so nobody ever needs
to overwrite, and a writer who would is told.
"""

from serve.storage.errors import (
    InvalidKey,
    InvalidStorageUrl,
    ObjectExists,
    ObjectMissing,
    StorageError,
    StorageForbidden,
    StorageFull,
    StorageUnavailable,
)
from serve.storage.protocol import Storage, StoredObject
from serve.storage.url import open_storage

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
