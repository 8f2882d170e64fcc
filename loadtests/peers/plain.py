"""`python -m loadtests.peers.plain`: a plain diffusers loop behind FastAPI, one call a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import typer
import uvicorn
from fastapi import FastAPI

from loadtests.peers.drawing import (
    DEFAULT_MODEL,
    DEFAULT_THREADS,
    PATH,
    Asked,
    DrawingThread,
    Model,
    Port,
    Threads,
    answer,
)


def serve(draw: Callable[[Asked], Awaitable[bytes]], port: int) -> None:
    """OpenAI's image generations until Ctrl-C."""
    app = FastAPI()

    @app.post(PATH)
    async def generate(body: dict[str, Any]) -> dict[str, Any]:
        return answer(await draw(Asked.read(body)))

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def main(
    port: Port = 8001, model: Model = DEFAULT_MODEL, threads: Threads = DEFAULT_THREADS
) -> None:
    """Serve the model until Ctrl-C."""
    thread = DrawingThread(model, threads)

    async def draw(asked: Asked) -> bytes:
        return (await thread.draw([asked]))[0]

    serve(draw, port)


if __name__ == "__main__":
    typer.run(main)
