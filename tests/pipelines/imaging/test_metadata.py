"""Files that tell how they were made."""

import io
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from pipelines.imaging.encode import encode
from pipelines.imaging.errors import InvalidPicture, MetadataTooLong
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.metadata import read_metadata
from tests.pipelines.imaging.pictures import decode, scene

METADATA = {
    "prompt": 'ein Fuchs im Nebel, „sfumato“ 🦊 <&"> \\ \n 狐',
    "seed": 2**63 - 1,
    "num_inference_steps": 20,
    "guidance_scale": 7.5,
    "model": "embedded",
    "loras": [],
}


@pytest.mark.parametrize("format_", PictureFormat)
def test_what_was_written_is_read(format_: PictureFormat) -> None:
    assert read_metadata(encode(scene(32, 32), format_, None, METADATA)) == METADATA


@pytest.mark.parametrize("format_", PictureFormat)
def test_every_file_is_marked_as_made_by_a_model(format_: PictureFormat) -> None:
    file = encode(scene(32, 32), format_, None, METADATA)
    with Image.open(io.BytesIO(file)) as picture:
        packet = ET.fromstring(picture.info["xmp"])  # noqa: S314 our own file
    (source,) = (
        value
        for element in packet.iter()
        for name, value in element.items()
        if name == "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    )
    assert source.endswith("/digitalsourcetype/trainedAlgorithmicMedia")


@pytest.mark.parametrize("format_", PictureFormat)
def test_metadata_changes_no_pixel(format_: PictureFormat) -> None:
    image = scene(32, 32)
    plain, told = encode(image, format_), encode(image, format_, None, METADATA)
    assert (decode(plain) == decode(told)).all()


@pytest.mark.parametrize("format_", PictureFormat)
def test_a_file_without_metadata_has_none(format_: PictureFormat) -> None:
    assert read_metadata(encode(scene(32, 32), format_)) is None


def test_another_program_s_comment_is_not_ours() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0holiday"
    Image.new("RGB", (8, 8)).save(file, "jpeg", exif=exif)
    assert read_metadata(file.getvalue()) is None


def test_what_does_not_fit_is_refused_with_a_way_out() -> None:
    long = {"prompt": "x" * 70_000}
    with pytest.raises(MetadataTooLong, match="png"):
        encode(scene(32, 32), PictureFormat.JPEG, None, long)
    assert read_metadata(encode(scene(32, 32), PictureFormat.PNG, None, long)) == long


@pytest.mark.parametrize("file", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused(file: bytes) -> None:
    with pytest.raises(InvalidPicture):
        read_metadata(file)
