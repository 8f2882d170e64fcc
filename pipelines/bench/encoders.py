"""`python -m pipelines.bench encoders`: PNG encoders side by side, and what a picture takes in all.

Encoders that are not installed are left out; `pip install fpng imagecodecs zlib-ng
opencv-python-headless` brings them all. Each runs in one thread, and its processor time counts.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from pipelines.imaging.formats import png
from pipelines.imaging.postprocess import PostprocessSpec, process

Pixels = NDArray[np.uint8]
Encode = Callable[[Pixels], bytes]

_ROUNDS = 7


def encoders(
    size: Annotated[int, typer.Option(min=16, help="Side of the picture in pixels.")] = 1024,
) -> None:
    """Milliseconds and bytes of each PNG encoder, for one picture."""
    image = picture(size)
    typer.echo(f"| PNG of {size}x{size} | ms | times Pillow's defaults | MB | exact |")
    typer.echo("|---|---|---|---|---|")
    defaults = None
    for name, encode in _encoders():
        seconds, file = _timed(lambda encode=encode: encode(image))  # type: ignore[misc]
        defaults = defaults or seconds
        exact = "yes" if np.array_equal(_decoded(file), image) else "NO"
        typer.echo(
            f"| {name} | {seconds * 1e3:.1f} | {defaults / seconds:.1f} | {len(file) / 1e6:.2f} |"
            f" {exact} |"
        )
    ours, _ = _timed(lambda: process(image, PostprocessSpec()))
    theirs, _ = _timed(lambda: _by_defaults(image))
    typer.echo(
        f"\nPNG and thumbnails of 256 and 512 pixels: {ours * 1e3:.1f} ms; with Pillow's defaults"
        f" {theirs * 1e3:.1f} ms, {theirs / ours:.1f} times as long."
    )


def picture(size: int) -> Pixels:
    """Smooth colours with grain, as a photograph has them; the same every time."""
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    waves = [np.sin(6 * x + 3 * y + phase) for phase in (0.0, 2.0, 4.0)]
    grain = np.random.default_rng(7).normal(0, 2, (size, size, 3))
    return np.clip(np.stack(waves, axis=2) * 90 + 128 + grain, 0, 255).astype(np.uint8)


def _encoders() -> Iterator[tuple[str, Encode]]:
    yield "Pillow, its defaults", lambda image: _pillow(image)
    yield (
        "Pillow, level 1, run lengths",
        lambda image: _pillow(image, compress_level=1, compress_type=3),
    )
    yield "**Sfumato**", lambda image: png.encode(Image.fromarray(image), None, None)
    if fpng := _installed("fpng"):
        yield "fpng", lambda image: bytes(fpng.from_ndarray(image))
    if imagecodecs := _installed("imagecodecs"):
        yield "imagecodecs, level 1", lambda image: bytes(imagecodecs.png_encode(image, level=1))
    if cv2 := _installed("cv2"):
        cv2.setNumThreads(1)
        yield "OpenCV, its defaults", lambda image: _opencv(cv2, image)


def _installed(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


def _pillow(image: Pixels, **options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png", **options)
    return file.getvalue()


def _opencv(cv2: Any, image: Pixels) -> bytes:
    _, file = cv2.imencode(".png", image[..., ::-1])
    encoded: bytes = file.tobytes()
    return encoded


def _by_defaults(image: Pixels) -> bytes:
    """What `process` makes, as who knows no options would make it; the original's file."""
    for side in (512, 256):
        small = Image.fromarray(image)
        small.thumbnail((side, side))
        small.save(io.BytesIO(), "webp")
    return _pillow(image)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of processor time, the median of several; and what came out."""
    seconds = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        made = work()
        seconds.append(time.process_time() - began)
    return median(seconds), made


def _decoded(file: bytes) -> Pixels:
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"))
