"""API keys of the caller's tenant; of any tenant, for an operator."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from serve.access.auth import Admin
from serve.access.guarded_route import GuardedRoute
from serve.access.key_schemas import KeyBody, KeyList, KeyOut, KeyPage, NewKey
from serve.access.keys import Keys, Principal
from serve.access.scopes import Scope
from serve.http.documented import problems
from serve.http.provided import Provided

router = APIRouter(tags=["keys"], route_class=GuardedRoute)


@router.post(
    "/v1/keys",
    status_code=201,
    summary="Make a key",
    responses=problems(400, 401, 404, 413, 422, 429),
)
async def make_key(
    body: KeyBody, response: Response, caller: Admin, keys: Provided[Keys]
) -> NewKey:
    """The key is told in this answer alone."""
    if Scope.OPERATOR in body.scopes:
        caller.require(Scope.OPERATOR)
    tenant_id = tenant_meant(caller, body.tenant_id)
    token, key = await keys.issue(tenant_id, body.name, body.scopes, body.expires_in_s)
    response.headers["Cache-Control"] = "no-store"
    return NewKey.telling(token, key)


@router.get("/v1/keys", summary="List keys", responses=problems(401, 422))
async def list_keys(
    page: Annotated[KeyPage, Query()], caller: Admin, keys: Provided[Keys]
) -> KeyList:
    """The newest first, revoked and expired ones too."""
    tenant_id = tenant_meant(caller, page.tenant_id)
    of = ("keys", tenant_id)
    found = await keys.page(tenant_id, limit=page.limit_and_one, after=page.last_seen(*of))
    shown, following = page.cut(found, *of)
    return KeyList(data=[KeyOut.of(key) for key in shown], has_more=bool(following), next=following)


@router.delete(
    "/v1/keys/{key_id}",
    status_code=204,
    summary="Revoke a key",
    responses=problems(401, 404, 422, 429),
)
async def revoke_key(key_id: UUID, caller: Admin, keys: Provided[Keys]) -> None:
    """Every ingress shuts it out within five seconds. Repeating it is harmless."""
    await keys.revoke(key_id, caller)


def tenant_meant(caller: Principal, tenant_id: UUID | None) -> UUID:
    """The caller's own tenant unless another is named.

    Raises:
        InsufficientScope: another is, by somebody who is no operator.
    """
    if tenant_id is None or tenant_id == caller.tenant_id:
        return caller.tenant_id
    caller.require(Scope.OPERATOR)
    return tenant_id
