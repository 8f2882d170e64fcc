"""Objects of an S3 bucket, or of anything that speaks its protocol."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from serve.observability.meter import UNMETERED, Meter
from serve.storage.storage import (
    Storage,
    StorageForbidden,
    StorageFull,
    StorageUnavailable,
    checked_key,
)

if TYPE_CHECKING:
    from datetime import datetime

_TIMEOUT = timedelta(seconds=15)
# obstore has them in its text alone.
_STATUS = re.compile(r"status code: (\d{3}[\w ]*)")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_FULL = {"XMinioStorageFull", "QuotaExceeded"}


class BucketStorage(Storage):
    """Repeats a request that failed, for some seconds, before it gives up."""

    _store: S3Store

    def __init__(self, url: str, meter: Meter = UNMETERED) -> None:
        try:
            store = S3Store.from_url(
                url,
                client_options={"timeout": _TIMEOUT, "allow_http": True},
                retry_config={"max_retries": 4, "retry_timeout": _TIMEOUT},
            )
        except (BaseError, ValueError) as error:
            raise StorageUnavailable(
                f"{url} cannot be used: {str(error).partition(chr(10))[0]}. Check the AWS_* "
                "variables."
            ) from error
        super().__init__(store, url, meter)

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        with self._operation("put"):
            try:
                await obstore.put_async(
                    self._store,
                    checked_key(key),
                    data,
                    attributes={"Content-Type": media_type},
                    mode="create",
                    # One request is atomic, and can be refused where the key exists; parts cannot.
                    use_multipart=False,
                )
            except AlreadyExistsError:
                await self._expect(key, data)

    async def signed_url(self, key: str, ttl_s: int) -> str:
        with self._operation("sign"):
            path, expires_in = checked_key(key), timedelta(seconds=ttl_s)
            return await obstore.sign_async(self._store, "GET", path, expires_in)

    async def remove_remains(self, before: datetime) -> int:
        return 0

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        text = str(error)
        if status := _STATUS.search(text):
            code = _CODE.search(text)
            return self._answered(status[1], code[1] if code else "")
        if "kind: Timeout" in text:
            reason = "does not answer in time: check the network"
        elif "BareRedirect" in text:
            reason = "is in another region: set AWS_REGION"
        else:
            reason = "cannot be reached: check the network and AWS_ENDPOINT_URL"
        return StorageUnavailable(f"{self._place} {reason}.")

    def _answered(self, status: str, code: str) -> StorageUnavailable:
        answer = f"{self._place} answered {status}" + (f" ({code})" if code else "")
        if status.startswith("507") or code in _FULL:
            return StorageFull(f"{answer}: the storage is full; make room in it.")
        if status[:3] in {"401", "403"}:
            return StorageForbidden(
                f"{answer}: check the AWS_* credentials and the bucket's policy."
            )
        if status.startswith("404"):
            return StorageUnavailable(f"{answer}: make the bucket, or set SFUMATO_STORAGE_URL.")
        if status.startswith("4"):
            return StorageUnavailable(f"{answer}: check the AWS_* region and endpoint.")
        return StorageUnavailable(f"{answer}: try again later, and check the service behind it.")
