"""The picture store runs full, or goes away."""

from __future__ import annotations

from typing import Any

from loadtests.chaos.faults.fault import Fault, Scene


class FillStorage(Fault):
    """No picture can be stored; a job whose pictures are tried meanwhile may fail, and says so."""

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        return {"storage": scene.service.disk.fill()}

    async def heal(self, scene: Scene) -> dict[str, Any]:
        scene.service.disk.free()
        return {}
