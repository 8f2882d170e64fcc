"""The bench's expected failures. Free of torch."""

from __future__ import annotations

from pipelines.diffusion.errors import DiffusionError


class BenchError(DiffusionError):
    """The figures would mean nothing."""
