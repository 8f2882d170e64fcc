"""Prompts that cannot be drawn, kept, or told."""

from __future__ import annotations

from tests.serve.api.refusals.case import Case, both

VALUE = "invalid_value"

CASES = [
    *both("no prompt", {}, 422, "missing_field", param="prompt"),
    *(
        case
        for name, prompt in (("empty", ""), ("of null", None))
        for case in (  # a job may have its prompt written, so it is left out there
            Case(
                f"job: prompt {name}", "POST", "/v1/jobs", 422, "missing_field", {"prompt": prompt}
            ),
            Case(
                f"generation: prompt {name}",
                "POST",
                "/v1/images/generations",
                400,
                VALUE,
                {"prompt": prompt},
                param="prompt",
            ),
        )
    ),
    *(
        case
        for name, prompt in (
            ("of blanks", "  \n\t"),
            ("of a number", 5),
            ("of a list", ["a red heart"]),
            ("of an object", {"text": "a red heart"}),
            ("too long", "x" * 4001),
            ("of a million characters", "x" * 1_000_000),
            ("with a NUL", "a\x00b"),
            ("with ANSI", "a \x1b[31mred\x1b[0m heart"),
            ("with a bell", "a\x07"),
            ("with a C1 control", "a\x9b2J"),
            ("with a backspace", "a\x08b"),
            ("with DEL", "a\x7f"),
        )
        for case in both(f"prompt {name}", {"prompt": prompt}, 422, VALUE, param="prompt")
    ),
    *both("prompt with a lone surrogate", b'{"prompt": "a \\ud800"}', 422, VALUE, param="prompt"),
    *both("prompt of a half pair", b'{"prompt": "\\udc00\\ud800"}', 422, VALUE, param="prompt"),
    *(
        case
        for name, prompt in (
            ("too long", "x" * 4001),
            ("with a NUL", "a\x00b"),
            ("with ANSI", "\x1b]0;owned\x07"),
            ("of true", True),
        )
        for case in both(
            f"negative prompt {name}",
            {"prompt": "a", "negative_prompt": prompt},
            422,
            VALUE,
            param="negative_prompt",
        )
    ),
]
