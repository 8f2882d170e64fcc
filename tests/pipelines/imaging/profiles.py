"""ICC profiles, written from the specification alone, and what their colours are in sRGB."""

from __future__ import annotations

import struct
from itertools import product

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
# Columns of red, green and blue under D50, as published with each space.
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
# From linear light of each space to linear sRGB, as published.
TO_SRGB = {
    "adobe": np.array([[1.3983, -0.3983, 0], [0, 1, 0], [0, -0.0429, 1.0429]]),
    "p3": np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]]),
    "srgb": np.eye(3),
}


def _fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def _xyz(*numbers: float) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*numbers)


def icc(
    space: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ", kind: bytes = b"mntr"
) -> bytes:
    """A profile of version 2.1."""
    values = [value + bytes(-len(value) % 4) for value in tags.values()]
    at = 128 + 4 + 12 * len(tags)
    table = struct.pack(">I", len(tags))
    for name, value in zip(tags, values, strict=True):
        table += name + struct.pack(">II", at, len(value))
        at += len(value)
    head = struct.pack(">I4xI4s4s4s", at, 0x02100000, kind, space, pcs) + bytes(12) + b"acsp"
    head += bytes(68 - len(head)) + _fixed(*D50)
    return head + bytes(128 - len(head)) + table + b"".join(values)


def curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def rgb(columns: tuple[tuple[float, float, float], ...], gamma: float = 2.2) -> bytes:
    """Of a screen or a camera."""
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    tags = {name: _xyz(*column) for name, column in zip(names, columns, strict=True)}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma))
    return icc(b"RGB ", {b"wtpt": _xyz(*D50), **tags, **curves})


def grey(gamma: float) -> bytes:
    return icc(b"GRAY", {b"wtpt": _xyz(*D50), b"kTRC": curve(gamma)})


def cmyk() -> bytes:
    """Of a press whose inks darken one another; its cyan is a dark one."""
    inks = np.array([[55, -37, -50], [48, 74, -3], [89, -5, 93], [0, 0, 0]])
    corners = b""
    for used in product((0, 1), repeat=4):
        lab = np.array([100.0, 0.0, 0.0])
        for ink in inks[np.array(used, bool)]:
            lab = np.array([lab[0] * ink[0] / 100, *(lab[1:] + ink[1:])])
        corners += bytes(
            np.clip([lab[0] * 2.55, lab[1] + 128, lab[2] + 128], 0, 255).astype(np.uint8)
        )
    straight = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return icc(
        b"CMYK",
        {b"wtpt": _xyz(*D50), b"A2B0": table + straight * 4 + corners + straight * 3},
        pcs=b"Lab ",
        kind=b"prtr",
    )


def shown(colour: tuple[int, int, int], space: str, gamma: float | None = 2.2) -> np.ndarray:
    """What a viewer shows; without a gamma the space has sRGB's own curve."""
    part = np.array(colour) / 255
    light = (
        part**gamma
        if gamma
        else np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    )
    seen = np.clip(TO_SRGB[space] @ light, 0, 1)
    told = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    return np.array(np.round(told * 255))
