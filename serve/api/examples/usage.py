"""Usage and quota."""

from __future__ import annotations

from serve.access.scopes import InsufficientScope, Scope
from serve.api.examples.example import Example
from serve.api.examples.tenants import NO_SUCH_TENANT, TENANT_ID
from serve.http.errors import InvalidValue

TAGS = {"usage": "What a tenant has used, by day and model, and what its quota leaves."}

EXAMPLES = {
    "getUsage": Example(
        parameters={"since": "2026-11-01", "until": "2026-11-30", "tenant_id": TENANT_ID},
        responses={
            200: {
                "tenant_id": TENANT_ID,
                "since": "2026-11-01",
                "until": "2026-11-30",
                "jobs": 212,
                "pictures": 640,
                "gpu_seconds": 1280.5,
                "data": [
                    {
                        "day": "2026-11-23",
                        "model": "sfumato-embedded",
                        "jobs": 180,
                        "pictures": 540,
                        "gpu_seconds": 1080.25,
                    },
                    {
                        "day": "2026-11-24",
                        "model": "sfumato-embedded",
                        "jobs": 32,
                        "pictures": 100,
                        "gpu_seconds": 200.25,
                    },
                ],
                "quota": {
                    "gpu_seconds": 100_000.0,
                    "used": 1280.5,
                    "left": 98_719.5,
                    "resets_at": "2026-12-01T00:00:00Z",
                },
            }
        },
        errors=(
            InsufficientScope(Scope.OPERATOR),
            NO_SUCH_TENANT,
            InvalidValue(
                "since: a period has 1 to 366 days; 2026-11-30 to 2026-11-01 has not.",
                param="since",
            ),
        ),
    )
}
