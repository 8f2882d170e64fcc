"""Content credentials (C2PA) written into a file: where its picture is from, signed."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from c2pa import Builder, C2paBuilderIntent, C2paError, C2paSignerInfo, Context, Settings, Signer
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pipelines.imaging.credentials.certificate import KeyPair
from pipelines.imaging.encode import encode
from pipelines.imaging.errors import ImagingError, InvalidCertificate
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.header import format_of
from pipelines.imaging.metadata.xmp import SOFTWARE, source_type

_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_SETTINGS = {"builder": {"thumbnail": {"enabled": False}}}
"""A thumbnail of its own takes 30 ms and 50 KiB."""


class CredentialSigner:
    """Signs files with one certificate; for any number of threads."""

    def __init__(self, pair: KeyPair) -> None:
        """The certificate, then those between it and its root; its private key, unencrypted.

        Raises:
            InvalidCertificate: they are none, do not belong together, or cannot sign pictures.
        """
        self._pair = pair
        self._algorithm = _algorithm(pair.private_key)
        self._context = Context(Settings.from_dict(_SETTINGS))
        try:
            self.sign(encode(np.zeros((1, 1, 3), np.uint8)), PictureFormat.PNG, {})
        except ImagingError as error:
            raise InvalidCertificate(f"This certificate cannot sign pictures: {error}") from error

    def sign(self, file: bytes, format: PictureFormat, metadata: Mapping[str, Any]) -> bytes:  # noqa: A002
        """The file of a picture that was drawn with these parameters, with its credentials."""
        version = metadata.get("software", SOFTWARE)
        action = {
            "action": "c2pa.created",
            "softwareAgent": {"name": version},
            "digitalSourceType": source_type(metadata),
        }
        if "created_at" in metadata:
            action["when"] = metadata["created_at"]
        if "model" in metadata:
            action["parameters"] = {"com.sfumato.model": metadata["model"]}
        return self._signed(file, format, Builder(_manifest(version, action), self._context))

    def sign_copy(self, file: bytes, format: PictureFormat, original: bytes) -> bytes:  # noqa: A002
        """A file of the same pixels as the ``original`` file, whose credentials it refers to."""
        before = format_of(original) or format
        builder = Builder(_manifest(SOFTWARE, {"action": "c2pa.transcoded"}), self._context)
        builder.set_intent(C2paBuilderIntent.EDIT)
        parent = {"title": f"original.{before.extension}", "relationship": "parentOf"}
        builder.add_ingredient(json.dumps(parent), before.media_type, io.BytesIO(original))
        return self._signed(file, format, builder)

    def _signed(self, file: bytes, format: PictureFormat, builder: Builder) -> bytes:  # noqa: A002
        signed = io.BytesIO()
        info = C2paSignerInfo(
            self._algorithm, self._pair.certificates.encode(), self._pair.private_key.encode(), None
        )
        try:
            with builder, Signer.from_info(info) as signer:
                builder.sign(signer, format.media_type, io.BytesIO(file), signed)
        except C2paError as error:
            raise ImagingError(f"The picture could not be signed: {error}") from error
        return signed.getvalue()


def _manifest(version: str, action: Mapping[str, Any]) -> str:
    return json.dumps(
        {
            "claim_generator_info": [{"name": version}],
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        }
    )


def _algorithm(private_key: str) -> str:
    """By C2PA's names. Raises InvalidCertificate."""
    try:
        key = load_pem_private_key(private_key.encode(), None)
    except (ValueError, TypeError) as error:
        raise InvalidCertificate(
            f"The private key is no PEM file without a password: {error}"
        ) from error
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, RSAPrivateKey):
        return "ps256"
    raise InvalidCertificate("C2PA signs with P-256, P-384, P-521, Ed25519 and RSA keys alone.")
