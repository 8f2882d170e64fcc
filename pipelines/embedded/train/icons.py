"""Icon sets: fetched with `npm pack`, rendered with resvg."""

import io
import json
import subprocess
import tarfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

TRAIN_PATH = Path(__file__).parents[3] / ".train"
"""Where everything that is not committed goes: packages, arrays, checkpoints."""

TRAIN_SETS = ("noto", "fluent-emoji-flat", "fluent-emoji", "noto-v1")
HELD_OUT_SET = "twemoji"

SIZE = 128
"""Pixels a side of a rendered icon: twice the picture's, so that it can be moved and scaled."""

_SKIN_TONES = ("-light", "-medium", "-dark", "-skin-tone")


def fetch(icon_set: str) -> dict[str, str]:
    """The SVG of every icon of an Iconify set, by name, downloaded once.

    Raises `subprocess.CalledProcessError` if npm cannot fetch the package.
    """
    folder = TRAIN_PATH / "npm" / icon_set
    if not folder.exists():
        folder.mkdir(parents=True)
        packed = subprocess.run(  # noqa: S603
            ["npm", "pack", "--silent", f"@iconify-json/{icon_set}"],  # noqa: S607
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
        with tarfile.open(folder / packed.stdout.strip()) as archive:
            archive.extractall(folder, filter="data")
    collection = json.loads((folder / "package" / "icons.json").read_text(encoding="utf-8"))
    width, height = collection.get("width", 16), collection.get("height", 16)
    return {
        name: (
            '<svg xmlns="http://www.w3.org/2000/svg" '
            'xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 '
            f'{icon.get("width", width)} {icon.get("height", height)}">{icon["body"]}</svg>'
        )
        for name, icon in collection["icons"].items()
    }


def render(svg: str) -> npt.NDArray[np.uint8]:
    """An icon's RGBA pixels, [SIZE, SIZE, 4], straight alpha, centred."""
    import resvg_py  # Only training needs it.

    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, skip_system_fonts=True)
    drawn = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    drawn.thumbnail((SIZE, SIZE))
    canvas = Image.new("RGBA", (SIZE, SIZE))
    canvas.paste(drawn, ((SIZE - drawn.width) // 2, (SIZE - drawn.height) // 2))
    return np.asarray(canvas)


def load(icon_set: str) -> dict[str, npt.NDArray[np.uint8]]:
    """Every icon of a set by name, rendered once; people in further skin tones are left out."""
    path = TRAIN_PATH / f"{icon_set}.npz"
    if not path.exists():
        svgs = {
            name: svg
            for name, svg in fetch(icon_set).items()
            if not name.startswith(("flag-", "man-", "woman-", "person-", "people-"))
            and not any(tone in name for tone in _SKIN_TONES)
        }
        with ProcessPoolExecutor(2) as pool:
            drawn = list(pool.map(render, svgs.values(), chunksize=16))
        np.savez_compressed(path, names=np.array(list(svgs)), icons=np.stack(drawn))
    with np.load(path) as arrays:
        return dict(zip(arrays["names"].tolist(), arrays["icons"], strict=True))
