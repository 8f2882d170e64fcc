"""A tiny model in memory, as the bench sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.bench.subject import Subject, family_of
from tests.pipelines.diffusion.tiny.stable_diffusion import build_pipeline


@pytest.fixture(scope="session")
def subject() -> Subject:
    pipeline = build_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    return Subject("tiny", family_of(pipeline), width=64, height=64)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build_pipeline().save_pretrained(folder)
    return folder
