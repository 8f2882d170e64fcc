"""Files that tell how they were made, to us and to other tools."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.imaging.encode import encode
from pipelines.imaging.errors import MetadataTooLong
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.metadata.read import read_origin
from tests.pipelines.imaging.metadata.files import METADATA, PARAMETERS
from tests.pipelines.imaging.pictures import decode, scene

DIGITAL_SOURCE_TYPE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
# What a JSON body can bring: everything but lone surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@pytest.mark.parametrize("format_", PictureFormat)
def test_what_was_written_is_read(format_: PictureFormat) -> None:
    origin = read_origin(encode(scene(32, 32), format_, None, METADATA))
    assert origin is not None
    assert (origin.software, origin.parameters, origin.other) == ("Sfumato", PARAMETERS, {})
    assert origin.created_at == METADATA["created_at"]


def test_hashes_of_files_are_no_parameters() -> None:
    told = {**PARAMETERS, "image": "ab" * 32, "lora_files": {"ink": "cd" * 32}}
    origin = read_origin(encode(scene(8, 8), metadata=told))
    assert origin is not None
    assert origin.parameters == PARAMETERS
    assert origin.other == {"image": "ab" * 32, "lora_files": f'{{"ink": "{"cd" * 32}"}}'}


@pytest.mark.parametrize("format_", PictureFormat)
@given(prompt=TEXT, negative_prompt=TEXT, model=TEXT)
@settings(max_examples=60, deadline=None)
def test_any_text_survives(
    format_: PictureFormat, prompt: str, negative_prompt: str, model: str
) -> None:
    told = {"prompt": prompt, "negative_prompt": negative_prompt, "model": model, "seed": 7}
    origin = read_origin(encode(scene(8, 8), format_, None, told))
    assert origin is not None
    assert origin.parameters == told


@pytest.mark.parametrize("format_", PictureFormat)
def test_every_file_is_marked_as_made_by_a_model(format_: PictureFormat) -> None:
    file = encode(scene(32, 32), format_, None, METADATA)
    with Image.open(io.BytesIO(file)) as picture:
        packet = ET.fromstring(picture.info["xmp"])  # noqa: S314 our own file
    (source,) = (each.text for each in packet.iter(DIGITAL_SOURCE_TYPE))
    assert source is not None
    assert source.endswith("/digitalsourcetype/trainedAlgorithmicMedia")


@pytest.mark.parametrize("format_", PictureFormat)
def test_metadata_changes_no_pixel(format_: PictureFormat) -> None:
    image = scene(32, 32)
    plain, told = encode(image, format_), encode(image, format_, None, METADATA)
    assert (decode(plain) == decode(told)).all()


@pytest.mark.parametrize("format_", PictureFormat)
def test_a_file_without_metadata_has_none(format_: PictureFormat) -> None:
    assert read_origin(encode(scene(32, 32), format_)) is None


@pytest.mark.parametrize("format_", PictureFormat)
def test_a_prompt_that_is_withheld_is_nowhere(format_: PictureFormat) -> None:
    told = {name: value for name, value in PARAMETERS.items() if "prompt" not in name}
    file = encode(scene(32, 32), format_, None, told)
    origin = read_origin(file)
    assert origin is not None
    assert origin.parameters == told
    for word in ("Nebel", "frame", "Negative"):
        assert word.encode() not in file
        assert word.encode("utf-16-be") not in file


def test_what_does_not_fit_is_refused_with_a_way_out() -> None:
    long = {"prompt": "x" * 70_000}
    with pytest.raises(MetadataTooLong, match="png"):
        encode(scene(32, 32), PictureFormat.JPEG, None, long)
    origin = read_origin(encode(scene(32, 32), PictureFormat.PNG, None, long))
    assert origin is not None
    assert origin.parameters == long


def test_a_jpeg_has_room_for_the_longest_prompts_of_the_default() -> None:
    """Of 4,000 characters each, in a script of three bytes a character."""
    told = {**PARAMETERS, "prompt": "狐" * 4_000, "negative_prompt": "影" * 4_000}
    origin = read_origin(encode(scene(8, 8), PictureFormat.JPEG, None, told))
    assert origin is not None
    assert origin.parameters == told


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("format_", PictureFormat)
def test_exiftool_agrees(format_: PictureFormat, tmp_path: Path) -> None:
    file = tmp_path / f"picture.{format_.extension}"
    file.write_bytes(encode(scene(32, 32), format_, None, METADATA))
    told = exiftool(file)
    assert json.loads(told["XMP:Parameters"]) == METADATA
    assert told["XMP:DigitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert told["XMP:CreateDate"] == "2026:11:30 16:20:33+00:00"
    assert told["EXIF:DateTimeOriginal"] == "2026:11:30 16:20:33"
    assert told["EXIF:Software"] == "Sfumato"
    text = told["PNG:Parameters" if format_ is PictureFormat.PNG else "EXIF:UserComment"]
    assert "Negative prompt: text, frame" in text
    assert "Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5" in text


def exiftool(file: Path) -> dict[str, Any]:
    """What exiftool says of the file, by group and tag."""
    said = subprocess.run(
        ["exiftool", "-json", "-G0", str(file)], capture_output=True, check=True, timeout=60
    )
    (told,) = json.loads(said.stdout)
    assert isinstance(told, dict)
    return told
