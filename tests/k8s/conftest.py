"""Each overlay, rendered once."""

from __future__ import annotations

import functools

import pytest

from tests.k8s.manifests import OVERLAYS, Manifests, render

_rendered = functools.cache(render)


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def manifests(overlay: str) -> Manifests:
    return _rendered(f"overlays/{overlay}")
