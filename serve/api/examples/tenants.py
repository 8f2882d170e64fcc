"""Tenants."""

from __future__ import annotations

from typing import Any

from serve.access.tenants import TenantExists, TenantNotFound
from serve.api.examples.errors import BEYOND, INVALID_CURSOR, invalid, no_id
from serve.api.examples.example import Example

TENANT_ID = "019ab2e0-51c8-7a6e-8f10-2c7d93b4a5e1"
_TENANT: dict[str, Any] = {
    "id": TENANT_ID,
    "name": "studio",
    "weight": 2.0,
    "limits": {
        "requests_per_minute": 120.0,
        "gpu_seconds_per_minute": None,
        "gpu_seconds_burst": None,
        "gpu_seconds_per_month": 100_000.0,
    },
    "created_at": "2026-11-24T05:22:53.512604Z",
}
NO_SUCH_TENANT = TenantNotFound(f"There is no tenant {TENANT_ID}.")
_WEIGHTLESS = invalid("weight", "Input should be greater than 0")

TAGS = {
    "tenants": "Whose keys, jobs and pictures there are; each has its share of the devices and its"
    " limits. For operators.",
}

EXAMPLES = {
    "makeTenant": Example(
        requests={
            "A name alone": {"name": "studio"},
            "With a double share, and limits": {
                "name": "studio",
                "weight": 2,
                "limits": {"requests_per_minute": 120, "gpu_seconds_per_month": 100_000},
            },
        },
        responses={201: _TENANT},
        headers={201: {"Location": f"/v1/tenants/{TENANT_ID}"}},
        errors=(TenantExists("There is a tenant 'studio' already.", param="name"), _WEIGHTLESS),
    ),
    "listTenants": Example(
        parameters={"limit": 20},
        responses={
            200: {
                "data": [_TENANT],
                "has_more": True,
                "next": "AZqy4FHIem6PECx9k7Sl4VJAzA2rmJBc",
            }
        },
        errors=(BEYOND, INVALID_CURSOR),
    ),
    "getTenant": Example(
        parameters={"tenant_id": TENANT_ID},
        responses={200: _TENANT},
        errors=(NO_SUCH_TENANT, no_id("tenant_id")),
    ),
    "changeTenant": Example(
        parameters={"tenant_id": TENANT_ID},
        requests={
            "Half the share": {"weight": 0.5},
            "No limit of requests, and the settings' quota": {
                "limits": {"requests_per_minute": 0, "gpu_seconds_per_month": None}
            },
        },
        responses={200: {**_TENANT, "weight": 0.5}},
        errors=(NO_SUCH_TENANT, no_id("tenant_id"), _WEIGHTLESS),
    ),
}
