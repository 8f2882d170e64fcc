"""Every query on pictures, their files, and sources. None of them commits."""

from serve.pictures.repository.files import orphans
from serve.pictures.repository.pictures import (
    delete_picture,
    delete_pictures_of,
    load_image,
    load_images,
    set_favourite,
)
from serve.pictures.repository.sources import (
    forget_lost_sources,
    forget_sources,
    hold_sources,
    touch_sources,
)

__all__ = [
    "delete_picture",
    "delete_pictures_of",
    "forget_lost_sources",
    "forget_sources",
    "hold_sources",
    "load_image",
    "load_images",
    "orphans",
    "set_favourite",
    "touch_sources",
]
