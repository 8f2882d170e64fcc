"""Pictures that stand in JSON, as data URLs."""

from __future__ import annotations

import base64

from serve.http.errors import InvalidValue

DATA_URL = "data:image/"
_BLANKS = b" \t\r\n"  # as `base64` wraps its lines


def file_of_data_url(url: str, field: str) -> bytes:
    """The file's bytes. What it is its content tells; the media type is not looked at.

    Raises:
        InvalidValue: it is not base64.
    """
    head, _, text = url.partition(";base64,")
    try:
        return base64.b64decode(text.encode().translate(None, _BLANKS), validate=True)
    except ValueError as error:
        raise InvalidValue(
            f"{field}: what follows `{head[:40]};base64,` is not base64.", param=field
        ) from error
