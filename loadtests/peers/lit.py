"""`python -m loadtests.peers.lit`: diffusers behind LitServe, batched as its documentation says.

All requests of a batch are answered once its last diffusers call has ended.
"""

# Without `from __future__ import annotations`: LitServe reads the types of the methods below.
from pathlib import Path
from typing import Any

import litserve
import typer

from loadtests.peers.drawing import (
    BATCH_WAIT_S,
    DEFAULT_MODEL,
    DEFAULT_THREADS,
    PATH,
    Asked,
    Batch,
    Model,
    Pipeline,
    Port,
    Threads,
    answer,
)
from pipelines.bench.plan import BATCH


class Diffusers(litserve.LitAPI):  # type: ignore[misc]  # it has no types
    """OpenAI's image generations, a PNG each."""

    def __init__(self, model: Path, threads: int, batch: int) -> None:
        # With a timeout of 0 LitServe's worker never sleeps.
        super().__init__(max_batch_size=batch, batch_timeout=BATCH_WAIT_S, api_path=PATH)
        self._model = model
        self._threads = threads

    def setup(self, device: str) -> None:
        """Load the pipeline; LitServe calls it in the worker, which alone draws."""
        self._pipeline = Pipeline(self._model, self._threads, device)

    def decode_request(self, request: dict[str, Any]) -> Asked:
        """One request of the batch."""
        return Asked.read(request)

    def batch(self, inputs: list[Asked]) -> list[Asked]:
        """As they are: `Pipeline.draw` groups them."""
        return inputs

    def predict(self, batch: list[Asked]) -> list[bytes]:
        """A PNG for each."""
        return self._pipeline.draw(batch)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """As they are: one for each request."""
        return output

    def encode_response(self, output: bytes) -> dict[str, Any]:
        """OpenAI's shape."""
        return answer(output)


def main(
    port: Port = 8001,
    model: Model = DEFAULT_MODEL,
    threads: Threads = DEFAULT_THREADS,
    batch: Batch = BATCH,
) -> None:
    """Serve the model until Ctrl-C."""
    # By default what has waited for 30 s is answered 504.
    server = litserve.LitServer(Diffusers(model, threads, batch), timeout=False)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    typer.run(main)
