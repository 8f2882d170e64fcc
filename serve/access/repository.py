"""Every query about tenants, their keys, what they used, and shared secrets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date
from enum import IntEnum
from uuid import UUID

from sqlalchemy import ColumnElement, Float, case, cast, func, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from serve.clock import seconds
from serve.database import Session
from serve.tables import ApiKey, Job, Secret, Tenant, Usage

OWN_KEY = "SFUMATO_API_KEY"
"""The name of the key that the operator gives by the environment."""
OWN_PREFIX_CHARS = 4
"""Fewer than of a random key: a person chose this string, and twelve may be half of it."""


async def tenant_named(session: Session, name: str) -> Tenant:
    """The tenant of that name, made where there is none."""
    await session.execute(
        insert(Tenant).values(name=name).on_conflict_do_nothing(index_elements=[Tenant.name])
    )
    return (await session.execute(select(Tenant).where(Tenant.name == name))).scalar_one()


async def add_tenant(session: Session, name: str, values: Mapping[str, object]) -> Tenant | None:
    """The new tenant, or None where there is one of that name."""
    statement = (
        insert(Tenant)
        .values(name=name, **values)
        .on_conflict_do_nothing(index_elements=[Tenant.name])
        .returning(Tenant)
    )
    return await session.scalar(statement)


async def tenant_by_id(session: Session, tenant_id: UUID) -> Tenant | None:
    return await session.scalar(select(Tenant).where(Tenant.id == tenant_id))


async def change_tenant(session: Session, tenant_id: UUID, values: Mapping[str, object]) -> None:
    """Set these columns of the tenant, if there is one."""
    await session.execute(update(Tenant).where(Tenant.id == tenant_id).values(**values))


async def tenants_before(session: Session, limit: int, after: UUID | None) -> Sequence[Tenant]:
    """Newest first (ids are UUIDv7: they sort by time)."""
    statement = select(Tenant).order_by(Tenant.id.desc()).limit(limit)
    if after is not None:
        statement = statement.where(Tenant.id < after)
    return (await session.scalars(statement)).all()


async def add_key(
    session: Session,
    tenant_id: UUID,
    name: str,
    *,
    prefix: str,
    digest: bytes,
    scopes: Collection[str],
    expires_in_s: float | None,
) -> ApiKey:
    expires = None if expires_in_s is None else func.now() + seconds(expires_in_s)
    statement = (
        insert(ApiKey)
        .values(
            tenant_id=tenant_id,
            name=name,
            prefix=prefix,
            digest=digest,
            scopes=sorted(scopes),
            expires_at=expires,
        )
        .returning(ApiKey)
    )
    return (await session.scalars(statement)).one()


async def ensure_own_key(
    session: Session, tenant_id: UUID, *, prefix: str, digest: bytes, scopes: Collection[str]
) -> None:
    """Store the operator's own key with these scopes, or update its scopes.

    Another own key of the tenant expires. A key that was revoked stays revoked.
    """
    names = sorted(scopes)
    await session.execute(
        insert(ApiKey)
        .values(tenant_id=tenant_id, name=OWN_KEY, prefix=prefix, digest=digest, scopes=names)
        .on_conflict_do_update(
            index_elements=[ApiKey.digest],
            # An own key may have expired when another replaced it; a key that `Keys.create` made
            # keeps its expiry.
            set_={
                "scopes": names,
                "expires_at": case((_is_own(), null()), else_=ApiKey.expires_at),
            },
        )
    )
    await session.execute(
        update(ApiKey)
        .where(ApiKey.tenant_id == tenant_id, _is_own(), ApiKey.digest != digest, _valid())
        .values(expires_at=func.now())
        .execution_options(synchronize_session=False)
    )


async def key_by_digest(session: Session, digest: bytes) -> tuple[ApiKey, float | None] | None:
    """The key, unless it was revoked or has expired, and seconds until it expires."""
    left_s = cast(func.extract("epoch", ApiKey.expires_at - func.clock_timestamp()), Float)
    query = select(ApiKey, left_s).where(ApiKey.digest == digest, _valid())
    row = (await session.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1])


async def key_is_valid(session: Session, key_id: UUID) -> bool:
    query = select(ApiKey.id).where(ApiKey.id == key_id, _valid())
    return await session.scalar(query) is not None


async def keys_of(session: Session, tenant_name: str | None) -> Sequence[ApiKey]:
    query = select(ApiKey).join(Tenant, Tenant.id == ApiKey.tenant_id).order_by(ApiKey.id)
    if tenant_name is not None:
        query = query.where(Tenant.name == tenant_name)
    return (await session.execute(query)).scalars().all()


async def keys_before(
    session: Session, tenant_id: UUID, limit: int, after: UUID | None
) -> Sequence[ApiKey]:
    """The tenant's, newest first."""
    query = select(ApiKey).where(ApiKey.tenant_id == tenant_id)
    query = query.order_by(ApiKey.id.desc()).limit(limit)
    if after is not None:
        query = query.where(ApiKey.id < after)
    return (await session.scalars(query)).all()


async def key_by_id(session: Session, key_id: UUID) -> ApiKey | None:
    return await session.scalar(select(ApiKey).where(ApiKey.id == key_id))


async def revoke_key(session: Session, key_id: UUID) -> None:
    """Revoke the key now; a key that was revoked before keeps its time."""
    await session.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id)
        .values(revoked_at=func.coalesce(ApiKey.revoked_at, func.now()))
        .execution_options(synchronize_session=False)
    )


async def ensure_secret(session: Session, name: str, fresh: bytes) -> bytes:
    """The secret of that name; ``fresh`` becomes it where there was none."""
    await session.execute(
        insert(Secret)
        .values(name=name, value=fresh)
        .on_conflict_do_nothing(index_elements=[Secret.name])
    )
    return (await session.execute(select(Secret.value).where(Secret.name == name))).scalar_one()


def _is_own() -> ColumnElement[bool]:
    """Keys that `create` made may have the name, but not the prefix's length."""
    return (ApiKey.name == OWN_KEY) & (func.length(ApiKey.prefix) == OWN_PREFIX_CHARS)


def _valid() -> ColumnElement[bool]:
    unexpired = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.clock_timestamp())
    return ApiKey.revoked_at.is_(None) & unexpired


class TenantLock(IntEnum):
    """What of a tenant is locked: the first of an advisory lock's two numbers."""

    ALBUM_NAMES = 0x5F0A1B
    ARTIST = 0x5F0A1C
    QUOTA = 0x5F0A73


async def lock_tenant(session: Session, lock: TenantLock, tenant_id: UUID) -> None:
    """Until the transaction ends nobody else has it."""
    await session.execute(
        select(func.pg_advisory_xact_lock(lock.value, func.hashtext(str(tenant_id))))
    )


_USAGE = Usage.table()
_CHARGE = insert(_USAGE)
_CHARGE = _CHARGE.on_conflict_do_update(
    index_elements=["tenant_id", "day", "model"],
    set_={
        name: _USAGE.c[name] + _CHARGE.excluded[name]
        for name in ("jobs", "pictures", "gpu_seconds")
    },
)


def _day(job: Job) -> date:
    return job.created_at.astimezone(UTC).date()


async def charge_usage(session: Session, job: Job, gpu_seconds: float) -> None:
    """Count a job that is accepted, on the day that it is.

    The last statement before the commit: it locks a row that the tenant's other jobs of that day
    need.
    """
    row = {"tenant_id": job.tenant_id, "day": _day(job), "model": job.model}
    counts = {"jobs": 1, "pictures": job.n, "gpu_seconds": gpu_seconds}
    await session.execute(_CHARGE, row | counts)


async def give_back_usage(session: Session, job: Job, pictures: int, gpu_seconds: float) -> None:
    """Take pictures of the job off again: the last statement before the commit, as charging is."""
    await session.execute(
        update(Usage)
        .where(Usage.tenant_id == job.tenant_id, Usage.day == _day(job), Usage.model == job.model)
        .values(
            pictures=Usage.pictures - pictures,
            # Sums of floating-point numbers in another order may fall just below 0.
            gpu_seconds=func.greatest(0, Usage.gpu_seconds - gpu_seconds),
        )
        .execution_options(synchronize_session=False)
    )


async def lock_quota(session: Session, tenant_id: UUID) -> None:
    """Serialize the tenant's jobs until the commit, so that each sees what the others used."""
    await lock_tenant(session, TenantLock.QUOTA, tenant_id)


async def gpu_seconds_used(session: Session, tenant_id: UUID, since: date, until: date) -> float:
    """From ``since`` until before ``until``."""
    statement = select(func.coalesce(func.sum(Usage.gpu_seconds), 0.0)).where(
        Usage.tenant_id == tenant_id, Usage.day >= since, Usage.day < until
    )
    return (await session.scalars(statement)).one()


async def read_usage(
    session: Session, tenant_id: UUID, since: date, until: date
) -> Sequence[Usage]:
    """By day and model, from ``since`` to ``until``."""
    statement = (
        select(Usage)
        .where(Usage.tenant_id == tenant_id, Usage.day >= since, Usage.day <= until)
        .order_by(Usage.day, Usage.model)
    )
    return (await session.scalars(statement)).all()
