"""What storage may answer instead; each message is fit for a client and names the cure."""

from __future__ import annotations


class StorageError(Exception):
    """Storage could not do what was asked; the message names the cure."""


class ObjectMissing(StorageError):
    """There is no object of this key."""


class ObjectExists(StorageError):
    """There is another object of this key already; it was left as it is."""


class InvalidKey(StorageError):
    """The key could mean something else than one object inside this storage."""


class InvalidStorageUrl(StorageError):
    """The address names no kind of storage that we have."""


class StorageUnavailable(StorageError):
    """The disk or the bucket failed; the same call may succeed later."""


class StorageFull(StorageUnavailable):
    """There is no room; it stays so until somebody makes some."""


class StorageForbidden(StorageUnavailable):
    """This account may not: rights, a read-only disk, wrong credentials; time doesn't mend it."""
