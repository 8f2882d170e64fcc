"""LoRAs that are uploaded and removed while the service runs."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from pathlib import Path

from pipelines.diffusion.errors import ModelLoadError
from pipelines.diffusion.families.registry import family_entry
from pipelines.diffusion.lora.check import check_lora_file
from serve.database import Database
from serve.http.errors import InvalidValue
from serve.jobs.limits import ServedModels
from serve.models import repository
from serve.models.changes import UploadedLora
from serve.models.errors import LoraConfigured, LoraNotFound
from serve.models.models import Models, not_served
from serve.models.schemas import LoraStatus
from serve.pictures.stored_file import LoraKey
from serve.storage import ObjectMissing, Storage, StorageUnavailable

_PUT_S = 300.0


class Loras:
    """Files in storage, each under its SHA-256; a row in Postgres gives it a model and a name."""

    def __init__(
        self, database: Database, storage: Storage, served: ServedModels, models: Models
    ) -> None:
        self._database = database
        self._storage = storage
        self._served = served
        self._models = models

    async def put(self, model: str, name: str, file: bytes) -> tuple[LoraStatus, bool]:
        """Store the LoRA, in place of one of that name if there is one; whether it is new.

        Raises:
            ModelNotFound: the model is not served.
            LoraConfigured: the configuration has one of that name.
            InvalidValue: it is no LoRA in safetensors, or the model takes none.
            StorageUnavailable: it is not kept.
        """
        await self._models.look()
        served = self._served.settings.served
        if model not in served:
            raise not_served(model)
        if name in served[model].loras:
            raise LoraConfigured(
                f"The configuration has a LoRA {name!r} of {model!r}; take another name."
            )
        description = self._served.descriptions.get(model)
        if description is not None and family_entry(description.class_name) is None:
            raise InvalidValue(f"The model {model!r} takes no LoRAs.", param="model")
        await asyncio.to_thread(_check_lora, file)
        sha256 = (await asyncio.to_thread(hashlib.sha256, file)).hexdigest()
        key = str(LoraKey(sha256))
        try:
            async with asyncio.timeout(_PUT_S):
                await self._storage.put(key, file, "application/octet-stream")
        except TimeoutError as error:
            raise StorageUnavailable(f"Storage did not answer within {_PUT_S:g} s.") from error
        async with self._database.transaction() as session:
            await repository.lock_changes(session)
            await self._models.current(session, model)
            try:
                await self._storage.look(key)
            except ObjectMissing as error:  # it was an old one's, which the sweeper deleted now
                raise StorageUnavailable("The file was just deleted; send it again.") from error
            before = {(each.model, each.name) for each in await repository.read_loras(session)}
            await repository.write_lora(session, UploadedLora(model, name, sha256, len(file)))
        await self._models.look()
        [lora] = [each for each in self._models.loras if (each.model, each.name) == (model, name)]
        return LoraStatus.of(lora), (model, name) not in before

    async def remove(self, model: str, name: str) -> None:
        """Take no more requests for it; the sweeper deletes its file once nothing names it.

        Raises:
            ModelNotFound: the model is not served.
            LoraNotFound: none of that name was uploaded for it.
        """
        async with self._database.transaction() as session:
            await repository.lock_changes(session)
            await self._models.current(session, model)
            loras = {(each.model, each.name) for each in await repository.read_loras(session)}
            if (model, name) not in loras:
                raise LoraNotFound(f"No LoRA {name!r} was uploaded for {model!r}.")
            await repository.delete_lora(session, model, name)
        await self._models.look()


def _check_lora(file: bytes) -> None:
    """Raises InvalidValue for what is no LoRA in safetensors, as its header tells."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as copy:
        copy.write(file)
        copy.flush()
        try:
            names = check_lora_file(Path(copy.name), called="The file")
        except ModelLoadError as error:
            raise InvalidValue(str(error)) from error
    if not any("lora" in name.lower() for name in names):
        raise InvalidValue("The file holds no LoRA; send one that was trained for this model.")
