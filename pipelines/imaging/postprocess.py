"""From the model's array to the files that are kept: a pure function, so that it may be retried."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.imaging.critique import Critique, critique
from pipelines.imaging.encode import encode
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.placeholder import placeholder
from pipelines.imaging.thumbnail import thumbnail

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from pipelines.imaging.credentials.sign import CredentialSigner

ORIGINAL = "original"
THUMBNAIL = "thumbnail"
_LARGE_THUMBNAIL = "thumbnail-512"
_THUMBNAIL_SIDES = {_LARGE_THUMBNAIL: 512, THUMBNAIL: 256}
_THUMBNAIL_QUALITY = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class PostprocessSpec:
    """What was asked: the original's file format and what the file shall tell.

    A `quality` of None takes the format's default; `metadata` is what JSON can hold. `critique`:
    the picture is measured, so that it can be compared with others.
    """

    format: PictureFormat = PictureFormat.PNG
    quality: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    critique: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One file of a picture; `width` and `height` in pixels, `size` in bytes, `sha256` in hex."""

    name: str
    format: PictureFormat
    width: int
    height: int
    size: int
    sha256: str
    data: bytes = field(repr=False)

    @property
    def media_type(self) -> str:
        """As in `Content-Type`."""
        return self.format.media_type

    @property
    def file_name(self) -> str:
        """Such as `original-9c1185a5c5e9fc54.png`: other content has another name."""
        return f"{self.name}-{self.sha256[:16]}.{self.format.extension}"


@dataclass(frozen=True, slots=True)
class Processed:
    """A picture's files, the original first, its BlurHash, and how it looks, if that was asked."""

    files: list[Variant]
    blurhash: str
    critique: Critique | None = None


def process(
    image: NDArray[np.uint8], spec: PostprocessSpec, signer: CredentialSigner | None = None
) -> Processed:
    """The original, thumbnails as WebP, and the placeholder.

    A picture of at most 256 pixels a side has one thumbnail of its own size, a larger one also a
    thumbnail of up to 512. The same picture and spec give the same bytes, unless they are
    signed.

    Args:
        image: (height, width, 3), RGB.
        spec: What was asked.
        signer: Adds content credentials to the original.

    Raises:
        ImagingError: the picture or the spec cannot be made into files.
    """
    file = encode(image, spec.format, spec.quality, spec.metadata)
    if signer is not None:
        file = signer.sign(file, spec.format, spec.metadata)
    variants = [variant_of(ORIGINAL, spec.format, image, file)]
    small = image
    for name, side in _THUMBNAIL_SIDES.items():
        if name == _LARGE_THUMBNAIL and max(image.shape) <= _THUMBNAIL_SIDES[THUMBNAIL]:
            continue
        small = thumbnail(small, side)
        file = encode(small, PictureFormat.WEBP, _THUMBNAIL_QUALITY)
        variants.append(variant_of(name, PictureFormat.WEBP, small, file))
    return Processed(variants, placeholder(small), critique(image) if spec.critique else None)


def variant_of(
    name: str,
    format: PictureFormat,  # noqa: A002 the field's own word
    pixels: NDArray[np.uint8],
    file: bytes,
) -> Variant:
    """The file of that name with these pixels, (height, width, 3)."""
    return Variant(
        name=name,
        format=format,
        width=pixels.shape[1],
        height=pixels.shape[0],
        size=len(file),
        sha256=hashlib.sha256(file).hexdigest(),
        data=file,
    )
