"""What a client is told of prompts that its model did not read to their ends."""

from __future__ import annotations

from pipelines.diffusion.request import PromptReading, TextReading


def prompt_warnings(reading: PromptReading) -> list[dict[str, str]]:
    """As ``jobs.warnings`` keeps them: ``code``, ``param`` and a ``message`` for the client."""
    texts = {name: getattr(reading, name) for name in ("prompt", "negative_prompt")}
    return [
        {"code": "prompt_truncated", "param": name, "message": _message(name, text)}
        for name, text in texts.items()
        if text is not None and text.cut
    ]


def tokens_read(reading: PromptReading) -> int | None:
    """Of both prompts; None where it is not known."""
    if reading.prompt is None:
        return None
    return reading.prompt.read + (reading.negative_prompt.read if reading.negative_prompt else 0)


def _message(name: str, text: TextReading) -> str:
    return (
        f"{name}: the model's text encoder read the first {text.read} of {text.tokens} tokens; the"
        " rest had no effect. Shorten it, or say first what matters most."
    )
