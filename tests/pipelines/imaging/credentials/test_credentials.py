"""Content credentials: written, read by ours and by C2PA's own reader, and broken."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import c2pa
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.dsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.imaging.convert import convert, pixels_of
from pipelines.imaging.credentials.certificate import SELF_MADE, KeyPair, self_made_pair
from pipelines.imaging.credentials.sign import CredentialSigner
from pipelines.imaging.credentials.verify import Verifier
from pipelines.imaging.encode import encode
from pipelines.imaging.errors import BrokenFile, InvalidCertificate, UnknownFormat
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.metadata.read import read_metadata, read_origin
from tests.pipelines.imaging.metadata.files import METADATA
from tests.pipelines.imaging.metadata.test_embed import DIGITAL_SOURCE_TYPE
from tests.pipelines.imaging.pictures import scene

PAIR = self_made_pair()
SIGNER = CredentialSigner(PAIR)
OURS = Verifier([PAIR.certificates])
ANYBODY = Verifier()
PICTURE = scene(48, 32)


def signed(kind: PictureFormat) -> bytes:
    return SIGNER.sign(encode(PICTURE, kind, metadata=METADATA), kind, METADATA)


@pytest.mark.parametrize("kind", PictureFormat)
def test_a_signed_file_tells_where_it_is_from(kind: PictureFormat) -> None:
    file = signed(kind)

    found = OURS.verify(file)
    assert found is not None
    assert (found.status, found.signer, found.self_made) == ("trusted", SELF_MADE, True)
    assert found.software == "Sfumato"
    assert found.actions == ("c2pa.created",)
    assert found.source_type == "trainedAlgorithmicMedia"
    assert found.created_at == METADATA["created_at"]
    assert found.faults == ()
    stranger = ANYBODY.verify(file)
    assert stranger is not None
    assert stranger.status == "intact"
    assert stranger.faults == ()
    another = Verifier([self_made_pair().certificates]).verify(file)
    assert another is not None
    assert another.status == "intact"


@pytest.mark.parametrize("kind", PictureFormat)
def test_c2pas_own_reader_agrees(kind: PictureFormat) -> None:
    with c2pa.Reader(kind.media_type, io.BytesIO(signed(kind))) as reader:
        store = json.loads(reader.json())
        assert reader.get_validation_state() == "Valid"
    manifest = store["manifests"][store["active_manifest"]]
    [actions] = [each for each in manifest["assertions"] if each["label"] == "c2pa.actions.v2"]
    assert actions["data"]["actions"][0]["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert str(METADATA["prompt"]) not in json.dumps(store, ensure_ascii=False)


@pytest.mark.parametrize("kind", PictureFormat)
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({}, "trainedAlgorithmicMedia"),
        ({"image": None}, "trainedAlgorithmicMedia"),
        ({"image": "ab" * 32}, "compositeWithTrainedAlgorithmicMedia"),
        ({"image": "ab" * 32, "mask": "cd" * 32}, "compositeWithTrainedAlgorithmicMedia"),
        ({"control_image": "ab" * 32}, "compositeWithTrainedAlgorithmicMedia"),
    ],
)
def test_credentials_and_xmp_name_the_same_source(
    kind: PictureFormat, sent: dict[str, str | None], expected: str
) -> None:
    metadata = {**METADATA, **sent}
    file = SIGNER.sign(encode(PICTURE, kind, metadata=metadata), kind, metadata)
    found = OURS.verify(file)
    assert found is not None
    assert found.source_type == expected
    with Image.open(io.BytesIO(file)) as picture:
        packet = ET.fromstring(picture.info["xmp"])  # noqa: S314 our own file
    (source,) = (each.text for each in packet.iter(DIGITAL_SOURCE_TYPE))
    assert source is not None
    assert source.rpartition("/")[2] == expected


@pytest.mark.parametrize("kind", PictureFormat)
def test_a_signature_changes_no_pixel_and_no_metadata(kind: PictureFormat) -> None:
    file = signed(kind)

    assert np.array_equal(pixels_of(file), pixels_of(encode(PICTURE, kind)))
    assert read_metadata(file) == METADATA


@pytest.mark.parametrize("kind", PictureFormat)
@settings(max_examples=15, deadline=None)
@given(prompt=st.text(max_size=200))
def test_any_prompt_survives_beside_a_signature(kind: PictureFormat, prompt: str) -> None:
    metadata = {**METADATA, "prompt": prompt}
    file = SIGNER.sign(encode(PICTURE, kind, metadata=metadata), kind, metadata)

    found, origin = OURS.verify(file), read_origin(file)
    assert found is not None
    assert found.status == "trusted"
    assert origin is not None
    assert origin.parameters["prompt"] == prompt


@pytest.mark.parametrize("kind", PictureFormat)
def test_whoever_alters_a_pixel_breaks_it(kind: PictureFormat) -> None:
    file = signed(kind)
    pixels = encode(PICTURE, kind, metadata=METADATA)[-40:-20]  # the last of what was signed
    at = file.rindex(pixels)
    altered = file[: at + 3] + bytes([file[at + 3] ^ 1]) + file[at + 4 :]

    found = OURS.verify(altered)
    assert found is not None
    assert found.status == "altered"
    assert found.faults


def test_a_picture_that_was_drawn_from_another_says_so() -> None:
    metadata = {**METADATA, "image": "0" * 64, "strength": 0.5}
    found = OURS.verify(
        SIGNER.sign(encode(PICTURE, metadata=metadata), PictureFormat.PNG, metadata)
    )

    assert found is not None
    assert found.source_type == "compositeWithTrainedAlgorithmicMedia"


@pytest.mark.parametrize("kind", [each for each in PictureFormat if each is not PictureFormat.PNG])
def test_a_copy_keeps_the_history(kind: PictureFormat) -> None:
    copy = convert(signed(PictureFormat.PNG), kind, SIGNER)

    found = OURS.verify(copy.data)
    assert found is not None
    assert found.status == "trusted"
    assert found.actions == ("c2pa.created", "c2pa.opened", "c2pa.transcoded")
    assert found.created_at == METADATA["created_at"]
    assert read_metadata(copy.data) == METADATA


def test_files_without_credentials_have_none() -> None:
    assert OURS.verify(encode(PICTURE, metadata=METADATA)) is None


@pytest.mark.parametrize("file", [b"", b"GIF89a", b"\xff\xd8\xff", signed(PictureFormat.PNG)[:900]])
def test_what_is_no_picture_is_refused(file: bytes) -> None:
    with pytest.raises((UnknownFormat, BrokenFile)):
        OURS.verify(file)


def test_a_certificate_that_cannot_sign_is_refused() -> None:
    other = self_made_pair()
    with pytest.raises(InvalidCertificate, match="cannot sign"):
        CredentialSigner(KeyPair(PAIR.certificates, other.private_key))
    with pytest.raises(InvalidCertificate, match="PEM"):
        CredentialSigner(KeyPair(PAIR.certificates, "no key"))
    with pytest.raises(InvalidCertificate, match="cannot sign"):
        CredentialSigner(KeyPair("no certificate", PAIR.private_key))
    expired = self_made_pair(datetime.now(UTC) - timedelta(days=4000))
    with pytest.raises(InvalidCertificate, match="cannot sign"):
        CredentialSigner(expired)
    dsa = generate_private_key(2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with pytest.raises(InvalidCertificate, match="P-256"):
        CredentialSigner(KeyPair(PAIR.certificates, dsa.decode()))


def test_anchors_that_are_none_are_refused() -> None:
    with pytest.raises(InvalidCertificate):
        Verifier(["no certificate"])
