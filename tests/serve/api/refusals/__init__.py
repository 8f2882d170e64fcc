"""The bad-input catalogue: whatever is asked wrongly, by theme.

A file of this package that has a list `CASES` is part of the catalogue; nothing else is to be done.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from tests.serve.api.refusals.case import Case, Knock

CASES: list[Case | Knock] = [
    case
    for module in iter_modules(__path__)
    for case in getattr(import_module(f"{__name__}.{module.name}"), "CASES", ())
]
