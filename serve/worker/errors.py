"""Expected failures of workers."""

from __future__ import annotations


class PictureFailed(Exception):
    """A picture cannot be drawn or delivered; the message is for the client.

    ``code`` is the job's ``error_code``, where the failure has one. ``unexpected`` is an error that
    nobody expected: it is logged with its traceback.
    """

    def __init__(
        self, message: str, code: str | None = None, unexpected: Exception | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.unexpected = unexpected


class PostprocessLost(Exception):
    """A post-process replica died or cannot be reached; another may do the same."""


class ForeignStorage(Exception):
    """The storage belongs to another database, so this service must delete nothing in it."""


class EngineDied(Exception):
    """The engine's loop ended by an error of its own; the replica must be replaced."""
