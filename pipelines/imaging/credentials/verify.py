"""What a file's content credentials (C2PA) say, and whether they hold."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from c2pa import C2paError, Context, Reader, Settings

from pipelines.imaging.credentials.certificate import SELF_MADE
from pipelines.imaging.errors import BrokenFile, InvalidCertificate, UnknownFormat
from pipelines.imaging.header import format_of

_NO_MANIFEST = "ManifestNotFound"
_UNTRUSTED = "signingCredential.untrusted"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a file's manifest says, and whether to believe it.

    ``intact``: the file is as it was signed. ``trusted``: intact, and signed by somebody whom the
    asker trusts. ``faults`` are C2PA's reasons against it.
    """

    intact: bool
    trusted: bool
    self_made: bool
    """Whether the certificate calls itself one that a Sfumato made for itself."""
    signer: str | None
    """The organisation in the certificate."""
    software: str | None
    actions: tuple[str, ...]
    """What was done, the first first: `c2pa.created` and the like."""
    source_type: str | None
    """IPTC's digital source type, such as `trainedAlgorithmicMedia`."""
    created_at: str | None
    faults: tuple[str, ...]

    @property
    def status(self) -> Literal["trusted", "intact", "altered"]:
        if self.trusted:
            return "trusted"
        return "intact" if self.intact else "altered"


class Verifier:
    """Reads credentials; for any number of threads."""

    def __init__(self, anchors: Sequence[str] = ()) -> None:
        """``anchors`` are PEM texts of certificates: who has one of them as issuer is trusted.

        Raises:
            InvalidCertificate: they are none.
        """
        trust = {"trust": {"trust_anchors": "\n".join(anchors)}} if anchors else {}
        # A file is a stranger's: it must not make this process call an address.
        verify = {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False}
        try:
            self._context = Context(Settings.from_dict({**trust, "verify": verify}))
        except C2paError as error:
            raise InvalidCertificate(f"The issuers are no certificates: {error}") from error

    def verify(self, file: bytes) -> Credentials | None:
        """None where the file has no credentials.

        Raises:
            InvalidUpload: it is no picture of a known format, or is broken.
        """
        kind = format_of(file)
        if kind is None:
            raise UnknownFormat("The file is not a PNG, JPEG, WebP or AVIF picture.")
        try:
            with Reader(kind.media_type, io.BytesIO(file), context=self._context) as reader:
                state, store = reader.get_validation_state(), json.loads(reader.json())
        except C2paError as error:
            if _NO_MANIFEST in str(error):
                return None
            raise BrokenFile(f"Its content credentials cannot be read: {error}") from error
        return _read(state, store)


def _read(state: str | None, store: Mapping[str, Any]) -> Credentials:
    manifests = store.get("manifests", {})
    manifest = manifests.get(store.get("active_manifest"), {})
    history = list(_history(manifests, manifest))
    created: Mapping[str, Any] = next(
        (each for each in history if each.get("digitalSourceType")), {}
    )
    generators = manifest.get("claim_generator_info") or [{}]
    signer = manifest.get("signature_info", {}).get("issuer")
    faults = [
        fault.get("explanation") or fault["code"]
        for fault in store.get("validation_status") or ()
        if fault["code"] != _UNTRUSTED
    ]
    return Credentials(
        intact=state in ("Valid", "Trusted"),
        trusted=state == "Trusted",
        self_made=signer == SELF_MADE,
        signer=signer,
        software=generators[0].get("name"),
        actions=tuple(each["action"] for each in history),
        source_type=str(created.get("digitalSourceType", "")).rpartition("/")[2] or None,
        created_at=created.get("when"),
        faults=tuple(faults),
    )


def _history(
    manifests: Mapping[str, Any], manifest: Mapping[str, Any]
) -> Sequence[Mapping[str, Any]]:
    """The actions of a manifest, after those of the file that it was made of."""
    own = [
        action
        for assertion in manifest.get("assertions", ())
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
    ]
    for ingredient in manifest.get("ingredients", ()):
        parent = manifests.get(ingredient.get("active_manifest"))
        if ingredient.get("relationship") == "parentOf" and parent not in (None, manifest):
            return [*_history(manifests, parent), *own]
    return own
