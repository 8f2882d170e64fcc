"""The configuration with what operators changed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from serve.models.changes import Change, ModelState, UploadedLora, apply_changes
from serve.settings import FurtherModelSettings, PoolSettings, Settings

SINCE = datetime(2026, 11, 30, tzinfo=UTC)
ONE_POOL = Settings()
TWO_POOLS = Settings(
    models={"sdxl": FurtherModelSettings(path="/m/sdxl")},
    pools={
        "small": PoolSettings(models=("sfumato-embedded",)),
        "large": PoolSettings(models=("sdxl",)),
    },
)
FLUX = {"path": "/m/flux", "max_steps": 60}


def test_a_model_that_was_added_is_in_its_pool() -> None:
    served = apply_changes(TWO_POOLS, [Change("flux", ModelState.ACTIVE, "large", FLUX)])
    assert served.settings.served["flux"].max_steps == 60
    assert served.settings.pool_of["flux"] == "large"
    assert served.active("large") == ["sdxl", "flux"]
    assert served.active("small") == ["sfumato-embedded"]
    assert "flux" not in TWO_POOLS.served


def test_without_pools_it_joins_the_one_that_there_is() -> None:
    served = apply_changes(ONE_POOL, [Change("flux", ModelState.ACTIVE, "default", FLUX)])
    assert served.active("default") == ["sfumato-embedded", "flux"]


def test_a_paused_one_is_served_but_not_drawn_with() -> None:
    served = apply_changes(TWO_POOLS, [Change("sdxl", ModelState.PAUSED, changed_at=SINCE)])
    assert "sdxl" in served.settings.served
    assert served.paused == {"sdxl": SINCE}
    assert served.active("large") == []


@pytest.mark.parametrize(
    "change",
    [
        Change("flux", ModelState.REMOVED, "large", FLUX),
        Change("flux", ModelState.ACTIVE, "huge", FLUX),  # a pool that is gone
        Change("flux", ModelState.ACTIVE, "large", {**FLUX, "of_a_newer_version": 1}),
        Change("flux", ModelState.read("melted"), "large", FLUX),
        Change("gone", ModelState.ACTIVE),  # was configured once, and resumed
    ],
)
def test_what_cannot_be_served_is_passed_by(change: Change) -> None:
    served = apply_changes(TWO_POOLS, [change])
    assert (served.settings, served.paused) == (TWO_POOLS, {})


def test_the_configuration_wins_over_what_was_added() -> None:
    change = Change("sdxl", ModelState.ACTIVE, "small", {"path": "/m/other"})
    assert apply_changes(TWO_POOLS, [change]).settings == TWO_POOLS


def test_uploaded_loras_of_models_that_are_served() -> None:
    configured = Settings(models={"sdxl": {"path": "/m/sdxl", "loras": {"ink": Path("ink")}}})
    uploaded = [
        UploadedLora(model, name, "a" * 64, 8)
        for model, name in (
            ("sdxl", "ink"),  # which the configuration names by now
            ("sdxl", "wash"),
            ("flux", "wash"),
            ("gone", "wash"),
        )
    ]
    added = Change("flux", ModelState.ACTIVE, "default", FLUX)
    served = apply_changes(configured, [added], uploaded)
    assert {model: list(loras) for model, loras in served.loras.items()} == {
        "sdxl": ["wash"],
        "flux": ["wash"],
    }
