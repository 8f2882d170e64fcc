"""Files of strangers: those of other tools, and hostile ones."""

from __future__ import annotations

import io
import json
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines.imaging.encode import encode
from pipelines.imaging.errors import InvalidUpload
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.metadata.png_text import png_texts
from pipelines.imaging.metadata.read import read_origin
from pipelines.imaging.metadata.xmp import read_xmp, write_xmp
from tests.pipelines.imaging.metadata.files import AUTOMATIC1111, COMFYUI, png
from tests.pipelines.imaging.pictures import scene

USER_COMMENT = 0x9286
EXIF = 0x8769


def jpeg(comment: bytes) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(EXIF)[USER_COMMENT] = comment
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "jpeg", exif=exif)
    return file.getvalue()


def test_automatic1111_s_png() -> None:
    origin = read_origin(png(parameters=AUTOMATIC1111))
    assert origin is not None
    assert origin.software == "AUTOMATIC1111 v1.10.1"
    assert origin.parameters["prompt"] == "a lighthouse"


@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
def test_automatic1111_s_jpeg(order: str) -> None:
    origin = read_origin(jpeg(b"UNICODE\0" + AUTOMATIC1111.encode(order)))
    assert origin is not None
    assert origin.parameters["prompt"] == "a lighthouse"


def test_comfyui_s_png() -> None:
    origin = read_origin(png(prompt=json.dumps(COMFYUI), workflow="{}"))
    assert origin is not None
    assert origin.software == "ComfyUI"
    assert origin.parameters["prompt"] == "a red fox"


def test_comfyui_s_webp() -> None:
    exif = Image.Exif()
    exif[0x0110] = f"prompt:{json.dumps(COMFYUI)}"
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "webp", exif=exif)
    origin = read_origin(file.getvalue())
    assert origin is not None
    assert origin.parameters["seed"] == 7


@pytest.mark.parametrize("comment", [b"UNICODE\0holiday", b"ASCII\0\0\0holiday", b"", b"x"])
def test_another_comment_tells_nothing(comment: bytes) -> None:
    assert read_origin(jpeg(comment)) is None


def test_a_packet_that_another_program_arranged_anew_is_read() -> None:
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:s="urn:sfumato:xmp:1" s:parameters="{&quot;seed&quot;:7}"/>'
        "</rdf:RDF></x:xmpmeta>"
    )
    assert read_xmp(packet) == {"seed": 7}


@pytest.mark.parametrize(
    "packet",
    [
        "",
        "no XML",
        write_xmp({"seed": 7})[:-200],
        write_xmp({"seed": 7}).replace('{"seed":7}', "[7]"),
        write_xmp({"seed": 7}).replace('{"seed":7}', "{"),
        '<!DOCTYPE a [<!ENTITY b "bb">]>' + write_xmp({"seed": 7}).partition("?>")[2],
    ],
)
def test_another_packet_tells_nothing(packet: str) -> None:
    assert read_xmp(packet) is None
    assert read_xmp(packet.encode()) is None


@pytest.mark.parametrize(
    "file", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a"]
)
def test_what_is_no_picture_is_refused(file: bytes) -> None:
    with pytest.raises(InvalidUpload):
        read_origin(file)


@given(
    where=st.integers(0, 2_000), byte=st.integers(0, 255), format_=st.sampled_from(PictureFormat)
)
def test_a_broken_file_is_refused_or_read(where: int, byte: int, format_: PictureFormat) -> None:
    file = bytearray(encode(scene(8, 8), format_, None, {"prompt": "a fox", "seed": 7}))
    file[where % len(file)] = byte
    with suppress(InvalidUpload):
        read_origin(bytes(file))


def test_text_that_unpacks_without_end_is_left_out() -> None:
    bomb = zlib.compress(bytes(200 * 2**20), 9)
    chunk = b"zTXt" + b"parameters\0\0" + bomb
    framed = (len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
    small = png(parameters=AUTOMATIC1111)
    file = small[:33] + framed * 20 + small[33:]
    tracemalloc.start()
    try:
        assert read_origin(file) is not None  # what can be read is
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()
    assert list(png_texts(file)) == ["parameters"]
