"""As much of Postgres' protocol as it takes to see a COMMIT go by."""

from __future__ import annotations

import struct

_SSL_REQUEST = 80877103
_GSS_REQUEST = 80877104
_HEADER_BYTES = 5


class FrontendMessages:
    """Cuts a client's stream into messages. Start-up messages have no type byte, all others do."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._started = False

    def commits(self, chunk: bytes) -> bool:
        """Whether a COMMIT, as a simple query, ends within this chunk."""
        self._buffer += chunk
        seen = False
        while True:
            if not self._started:
                if not self._skip_startup():
                    return seen
                continue
            if len(self._buffer) < _HEADER_BYTES:
                return seen
            (length,) = struct.unpack_from("!I", self._buffer, 1)
            if len(self._buffer) < length + 1:
                return seen
            kind, body = self._buffer[:1], bytes(self._buffer[_HEADER_BYTES : length + 1])
            del self._buffer[: length + 1]
            seen = seen or (kind == b"Q" and body.rstrip(b"\0; ").upper() == b"COMMIT")

    def _skip_startup(self) -> bool:
        if len(self._buffer) < 8:
            return False
        length, code = struct.unpack_from("!II", self._buffer)
        if len(self._buffer) < length:
            return False
        del self._buffer[:length]
        self._started = code not in (_SSL_REQUEST, _GSS_REQUEST)
        return True
