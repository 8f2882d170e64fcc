"""Every query about tenants, their keys, and shared secrets."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from serve.database import Session
from serve.models import ApiKey, Secret, Tenant


async def tenant_named(session: Session, name: str) -> Tenant:
    """The tenant of that name, made where there is none."""
    await session.execute(
        insert(Tenant).values(name=name).on_conflict_do_nothing(index_elements=[Tenant.name])
    )
    return (await session.execute(select(Tenant).where(Tenant.name == name))).scalar_one()


async def add_key(
    session: Session, tenant_id: UUID, name: str, *, prefix: str, digest: bytes
) -> ApiKey:
    key = ApiKey(tenant_id=tenant_id, name=name, prefix=prefix, digest=digest)
    session.add(key)
    await session.flush()
    await session.refresh(key)
    return key


async def ensure_key(
    session: Session, tenant_id: UUID, name: str, *, prefix: str, digest: bytes
) -> None:
    """Keep the key unless it is kept already; a revoked one stays revoked."""
    await session.execute(
        insert(ApiKey)
        .values(tenant_id=tenant_id, name=name, prefix=prefix, digest=digest)
        .on_conflict_do_nothing(index_elements=[ApiKey.digest])
    )


async def key_by_digest(session: Session, digest: bytes) -> ApiKey | None:
    query = select(ApiKey).where(ApiKey.digest == digest, ApiKey.revoked_at.is_(None))
    return (await session.execute(query)).scalar_one_or_none()


async def key_is_valid(session: Session, key_id: UUID) -> bool:
    query = select(ApiKey.id).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
    return await session.scalar(query) is not None


async def keys_of(session: Session, tenant_name: str | None) -> Sequence[ApiKey]:
    query = select(ApiKey).join(Tenant, Tenant.id == ApiKey.tenant_id).order_by(ApiKey.id)
    if tenant_name is not None:
        query = query.where(Tenant.name == tenant_name)
    return (await session.execute(query)).scalars().all()


async def revoke_key(session: Session, key_id: UUID) -> bool:
    """Whether there was such a key; revoking twice keeps the first time."""
    revoked = await session.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id)
        .values(revoked_at=func.coalesce(ApiKey.revoked_at, func.now()))
        .returning(ApiKey.id)
    )
    return revoked.scalar_one_or_none() is not None


async def ensure_secret(session: Session, name: str, fresh: bytes) -> bytes:
    """The secret of that name, which is ``fresh`` where there was none."""
    await session.execute(
        insert(Secret)
        .values(name=name, value=fresh)
        .on_conflict_do_nothing(index_elements=[Secret.name])
    )
    return (await session.execute(select(Secret.value).where(Secret.name == name))).scalar_one()
