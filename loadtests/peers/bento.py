"""`python -m loadtests.peers.bento`: diffusers behind BentoML, with its adaptive batching.

BentoML chooses when a batch begins. All requests of one are answered once its last diffusers call
has ended. A batchable method of BentoML takes and returns lists, so its JSON is a list of one.
"""

# Without `from __future__ import annotations`: BentoML reads the types of the methods below.
import base64
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import bentoml
import typer

from loadtests.peers.drawing import (
    DEFAULT_MODEL,
    DEFAULT_THREADS,
    PATH,
    Asked,
    Batch,
    DrawingThread,
    Model,
    Port,
    Threads,
)
from pipelines.bench.plan import BATCH

_LONGEST_WAIT_MS = 600_000
"""What BentoML expects to wait for longer, it refuses."""
_MODEL, _THREADS, _BATCH = "PEER_MODEL", "PEER_THREADS", "PEER_BATCH"
"""Variables that `main` sets for BentoML's worker, which imports this file."""


@bentoml.service(workers=1, traffic={"timeout": _LONGEST_WAIT_MS // 1000})
class Diffusers:
    """A PNG each, in base64."""

    def __init__(self) -> None:
        model, threads = os.environ.get(_MODEL, DEFAULT_MODEL), os.environ.get(_THREADS, "1")
        self._thread = DrawingThread(Path(model), int(threads))

    @bentoml.api(  # type: ignore[untyped-decorator]
        route=PATH,
        batchable=True,
        max_batch_size=int(os.environ.get(_BATCH, BATCH)),
        max_latency_ms=_LONGEST_WAIT_MS,
    )
    async def generate(self, asked: list[dict[str, Any]]) -> list[str]:
        """Of any number of requests."""
        pngs = await self._thread.draw([Asked.read(each) for each in asked])
        return [base64.b64encode(png).decode() for png in pngs]


def main(
    port: Port = 8001,
    model: Model = DEFAULT_MODEL,
    threads: Threads = DEFAULT_THREADS,
    batch: Batch = BATCH,
) -> None:
    """Serve the model until Ctrl-C."""
    os.environ |= {_MODEL: str(model), _THREADS: str(threads), _BATCH: str(batch)}
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    from loadtests.peers import bento  # as BentoML's worker finds it, not as `__main__`

    server = cast(Any, bento.Diffusers).serve_http(host="127.0.0.1", port=port)
    with server, suppress(KeyboardInterrupt):
        signal.pause()


if __name__ == "__main__":
    typer.run(main)
