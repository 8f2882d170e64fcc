"""Deliveries over real HTTP: signed, repeated, given up, and never lost to a killed courier."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import UUID

import pytest
from standardwebhooks import WebhookVerificationError

from serve.database import Database
from serve.jobs.lifecycle import Jobs
from serve.tables import Webhook
from serve.webhooks.signature import spell
from serve.webhooks.subscriptions import Webhooks
from tests.serve.conftest import ask, make_tenant
from tests.serve.observability.told import logged
from tests.serve.webhooks.conftest import TERMINAL, Run, rows, settled, states
from tests.serve.webhooks.receiver import Receiver, receiving


async def end_a_job(jobs: Jobs, tenant_id: UUID) -> UUID:
    job = await jobs.submit(tenant_id, ask())
    await jobs.cancel(tenant_id, job.id)
    return job.id


async def test_terminal_event_arrives_signed(
    jobs: Jobs,
    tenant_id: UUID,
    receiver: Receiver,
    secret: str,
    courier: Run,
    database: Database,
) -> None:
    job_id = await end_a_job(jobs, tenant_id)
    async with courier():
        await settled(database, "delivered")

    payload = receiver.verified(secret)
    assert payload["type"] == "job.cancelled"
    assert payload["data"] == {"job_id": str(job_id), "seq": 2}
    [(created_at,)] = await rows(database, "SELECT created_at::text FROM events WHERE seq = 2")
    assert payload["timestamp"][:19] == created_at[:19].replace(" ", "T")
    [request] = receiver.heard
    assert request["content-type"] == "application/json"
    assert request["host"] == receiver.address.removeprefix("http://")
    assert await states(database) == [("delivered", 1, 204, None)]


async def test_the_log_tells_neither_secret_nor_url(
    jobs: Jobs,
    tenant_id: UUID,
    receiver: Receiver,
    webhook: Webhook,
    courier: Run,
) -> None:
    receiver.answers = [500]
    job_id = await end_a_job(jobs, tenant_id)
    with logged() as lines:
        async with courier(attempts=2):
            await receiver.hears(2)
            async with asyncio.timeout(10):
                while len(lines.of("courier.tried")) < 2:
                    await asyncio.sleep(0.01)

    ids = {"webhook_id": str(webhook.id), "tenant_id": str(tenant_id), "job_id": str(job_id)}
    for number, line in enumerate(lines.of("courier.tried"), start=1):
        assert ids.items() <= line.items()
        assert line["attempt"] == number
    for hidden in ("/hook?a=1", spell(webhook.secret), repr(webhook.secret)):
        assert hidden not in lines.text


async def test_another_secret_does_not_verify(
    jobs: Jobs, tenant_id: UUID, receiver: Receiver, secret: str, courier: Run
) -> None:
    await end_a_job(jobs, tenant_id)
    async with courier():
        await receiver.hears(1)

    receiver.verified(secret)
    with pytest.raises(WebhookVerificationError):
        receiver.verified(spell(b"x" * 32))
    receiver.heard[0]["body"] += " "
    with pytest.raises(WebhookVerificationError):
        receiver.verified(secret)


async def test_rotation_signs_with_both_for_a_day(
    jobs: Jobs,
    tenant_id: UUID,
    webhooks: Webhooks,
    webhook: Webhook,
    receiver: Receiver,
    secret: str,
    courier: Run,
    database: Database,
) -> None:
    renewed = spell((await webhooks.rotate(tenant_id, webhook.id)).secret)
    assert renewed != secret
    async with courier():
        await end_a_job(jobs, tenant_id)
        await receiver.hears(1)
        await rows(
            database,
            "UPDATE webhooks SET rotated_at = now() - interval '25 hours' RETURNING id",
        )
        await end_a_job(jobs, tenant_id)
        await receiver.hears(2)

    assert receiver.verified(secret, 0) == receiver.verified(renewed, 0)
    receiver.verified(renewed, 1)
    with pytest.raises(WebhookVerificationError):
        receiver.verified(secret, 1)


async def test_failures_are_tried_again_under_the_same_id(
    jobs: Jobs,
    tenant_id: UUID,
    receiver: Receiver,
    secret: str,
    courier: Run,
    database: Database,
) -> None:
    receiver.answers = [500, 429, 404, 200]
    await end_a_job(jobs, tenant_id)
    async with courier():
        await settled(database, "delivered")

    assert len(receiver.heard) == 4
    assert len(set(receiver.ids)) == 1
    assert len({request["body"] for request in receiver.heard}) == 1
    for index in range(4):
        receiver.verified(secret, index)
    assert await states(database) == [("delivered", 4, 200, None)]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("says", "least", "most"),
    [("100", 90, 101), ("date", 90, 101), ("9" * 40, 86_390, 86_401), ("soon", -1, 1)],
)
async def test_a_receiver_says_how_long_it_wants_to_be_left_alone(
    jobs: Jobs,
    tenant_id: UUID,
    receiver: Receiver,
    courier: Run,
    database: Database,
    webhook: Webhook,
    status: int,
    says: str,
    least: float,
    most: float,
) -> None:
    at = datetime.now(UTC) + timedelta(seconds=100)
    receiver.answers = [status]
    receiver.retry_after = format_datetime(at, usegmt=True) if says == "date" else says
    await end_a_job(jobs, tenant_id)
    async with courier(attempts=16):
        await receiver.hears(1)
        async with asyncio.timeout(10):
            while (await states(database))[0][2] is None:
                await asyncio.sleep(0.02)
        [(wait_s,)] = await rows(
            database, "SELECT extract(epoch FROM next_at - now())::float FROM deliveries"
        )

    if least > 0:
        assert least < wait_s < most
        assert len(receiver.heard) == 1
        [(state, attempts, _, error)] = await states(database)
        assert (state, attempts) == ("pending", 1)
        assert "It asks to wait" in str(error)
    else:
        assert wait_s < most


async def test_it_does_not_keep_a_delivery_alive(
    jobs: Jobs,
    tenant_id: UUID,
    receiver: Receiver,
    courier: Run,
    database: Database,
    webhook: Webhook,
) -> None:
    receiver.answers, receiver.retry_after = [503], "3600"
    await end_a_job(jobs, tenant_id)
    async with courier(attempts=1):
        await settled(database, "dead")


async def test_dead_after_the_last_try_and_alive_again_when_asked(
    jobs: Jobs,
    tenant_id: UUID,
    webhooks: Webhooks,
    webhook: Webhook,
    receiver: Receiver,
    courier: Run,
    database: Database,
) -> None:
    receiver.answers = [503]
    await end_a_job(jobs, tenant_id)
    async with courier():
        await settled(database, "dead")
        assert len(receiver.heard) == 4
        assert await states(database) == [("dead", 4, 503, "The receiver answered 503.")]
        [dead] = await webhooks.deliveries(tenant_id, webhook.id, state=None, limit=9, after=None)
        receiver.answers = [500, 202]
        await webhooks.retry(tenant_id, dead.id)
        await settled(database, "delivered")

    assert await states(database) == [("delivered", 2, 202, None)]
    assert len(set(receiver.ids)) == 1


async def test_a_receiver_that_hangs_is_not_waited_for(
    jobs: Jobs,
    tenant_id: UUID,
    receiver: Receiver,
    webhook: Webhook,
    courier: Run,
    database: Database,
) -> None:
    receiver.answers = [asyncio.Event(), 200]
    await end_a_job(jobs, tenant_id)
    async with courier(timeout_s=0.3):
        await settled(database, "delivered")

    assert len(set(receiver.ids)) == 1
    assert len(receiver.heard) == 2


async def test_redirects_are_not_followed(
    jobs: Jobs,
    tenant_id: UUID,
    receiver: Receiver,
    webhook: Webhook,
    courier: Run,
    database: Database,
) -> None:
    receiver.answers = [302, 307, 308, 301]
    await end_a_job(jobs, tenant_id)
    async with courier():
        await settled(database, "dead")

    assert len(receiver.heard) == 4
    [(_, _, status, error)] = await states(database)
    assert status == 301
    assert "redirects are not followed" in (error or "")


async def test_nobody_listens(
    jobs: Jobs, tenant_id: UUID, webhooks: Webhooks, courier: Run, database: Database
) -> None:
    async with receiving(Receiver()) as gone:
        address = gone.address
    await webhooks.create(tenant_id, address, TERMINAL)
    await webhooks.create(tenant_id, "http://no-such-host.invalid/", TERMINAL)
    await end_a_job(jobs, tenant_id)
    async with courier(attempts=2):
        await settled(database, "dead", "dead")

    refused, unknown = (error or "" for *_, error in await states(database))
    assert "connection failed" in refused
    assert unknown == "The host has no public address."


async def test_a_killed_courier_loses_nothing(
    jobs: Jobs,
    tenant_id: UUID,
    receiver: Receiver,
    secret: str,
    courier: Run,
    database: Database,
) -> None:
    receiver.answers = [asyncio.Event(), 204]
    await end_a_job(jobs, tenant_id)
    async with courier():
        await receiver.hears(1)  # it is in the receiver's hands, and the courier dies
    assert await states(database) == [("pending", 1, None, None)]

    async with courier():
        await asyncio.sleep(0.3)
        assert len(receiver.heard) == 1, "the lease was not respected"
        await rows(database, "UPDATE deliveries SET next_at = now() RETURNING id")  # it ends
        await settled(database, "delivered")

    assert len(set(receiver.ids)) == 1
    assert receiver.verified(secret, 0) == receiver.verified(secret, 1)


async def test_a_late_failure_does_not_undo_a_later_claim(
    jobs: Jobs,
    tenant_id: UUID,
    receiver: Receiver,
    webhook: Webhook,
    courier: Run,
    database: Database,
) -> None:
    receiver.answers = [asyncio.Event()]
    await end_a_job(jobs, tenant_id)
    # The first gives up for good after two seconds, and takes nothing else meanwhile.
    async with courier(timeout_s=2, attempts=1, concurrency=1):
        await receiver.hears(1)
        async with courier(timeout_s=30):
            await rows(database, "UPDATE deliveries SET next_at = now() RETURNING id")
            await receiver.hears(2)
            await asyncio.sleep(2.5)
            assert await states(database) == [("pending", 2, None, None)]


async def test_two_couriers_deliver_each_once(
    jobs: Jobs,
    tenant_id: UUID,
    receiver: Receiver,
    webhook: Webhook,
    courier: Run,
    database: Database,
) -> None:
    ended = {await end_a_job(jobs, tenant_id) for _ in range(40)}
    async with courier(), courier():
        await settled(database, *["delivered"] * 40)

    assert len(receiver.heard) == len(set(receiver.ids)) == len(ended)
    assert {attempts for _, attempts, *_ in await states(database)} == {1}


async def test_every_end_is_delivered_whoever_dies(
    jobs: Jobs,
    tenant_id: UUID,
    receiver: Receiver,
    secret: str,
    courier: Run,
    database: Database,
) -> None:
    chance = random.Random(3)
    kinds: list[int | asyncio.Event] = [200, 500, asyncio.Event()]
    receiver.answers = [*chance.choices(kinds, k=30), 200]
    ended = {str(await end_a_job(jobs, tenant_id)) for _ in range(12)}

    async def fall_and_rise() -> None:
        while True:
            async with courier():
                await asyncio.sleep(chance.uniform(0.05, 0.4))
            await rows(  # its leases end
                database,
                "UPDATE deliveries SET next_at = now(), attempts = 0"
                " WHERE delivered_at IS NULL RETURNING id",
            )

    falling = [asyncio.create_task(fall_and_rise()) for _ in range(2)]
    try:
        await settled(database, *["delivered"] * len(ended), seconds=120)
        assert not any(task.done() for task in falling)
    finally:
        for task in falling:
            task.cancel()
        await asyncio.wait(falling)

    deliveries = Counter(
        receiver.verified(secret, index)["data"]["job_id"] for index in range(len(receiver.heard))
    )
    assert set(deliveries) == ended
    assert len(set(receiver.ids)) == len(ended)
    assert max(deliveries.values()) > 1, "the storm was a calm"


async def test_gone_disables_the_webhook(
    jobs: Jobs,
    tenant_id: UUID,
    webhooks: Webhooks,
    webhook: Webhook,
    receiver: Receiver,
    courier: Run,
    database: Database,
) -> None:
    receiver.answers = [410]
    await end_a_job(jobs, tenant_id)
    await end_a_job(jobs, tenant_id)
    async with courier(concurrency=1):
        await settled(database, "dead", "dead")
        await end_a_job(jobs, tenant_id)

    assert len(receiver.heard) == 1
    assert (await webhooks.get(tenant_id, webhook.id)).disabled_at is not None
    assert await states(database) == [
        ("dead", 1, 410, "The receiver answered 410."),
        ("dead", 0, None, "The receiver answered 410."),
    ]


async def test_a_tenant_whose_receivers_hang_holds_up_no_other(
    jobs: Jobs,
    tenant_id: UUID,
    receiver: Receiver,
    webhook: Webhook,
    webhooks: Webhooks,
    courier: Run,
    database: Database,
) -> None:
    receiver.answers = [asyncio.Event()]
    for _ in range(8):
        await end_a_job(jobs, tenant_id)
    other = await make_tenant(database, "second")
    async with receiving(Receiver()) as awake, courier(concurrency=4, timeout_s=20):
        await receiver.hears(1)
        await webhooks.create(other, awake.address, TERMINAL)
        for _ in range(5):
            await end_a_job(jobs, other)
        await awake.hears(5, seconds=10)

    assert len(receiver.heard) == 1


async def test_what_ended_long_ago_is_forgotten(
    jobs: Jobs,
    tenant_id: UUID,
    receiver: Receiver,
    webhook: Webhook,
    courier: Run,
    database: Database,
) -> None:
    receiver.answers = [200, 200, 500, 500, 500, 500, 500, 500, 500, 500]
    for _ in range(4):
        await end_a_job(jobs, tenant_id)
        async with courier():
            await receiver.hears(1)
            await settled_all(database)
    ages = ["8 days", "6 days", "31 days", "29 days"]
    ids = [row[0] for row in await rows(database, "SELECT id FROM deliveries ORDER BY id")]
    for delivery_id, age in zip(ids, ages, strict=True):
        await rows(
            database,
            "UPDATE deliveries SET delivered_at = delivered_at - (:age)::text::interval,"
            " failed_at = failed_at - (:age)::text::interval WHERE id = :id RETURNING id",
            age=age,
            id=delivery_id,
        )
    async with courier():
        await settled(database, "delivered", "dead")


async def settled_all(database: Database) -> None:
    async with asyncio.timeout(20):
        while any(state == "pending" for state, *_ in await states(database)):
            await asyncio.sleep(0.02)


async def test_an_event_of_a_newer_version_is_delivered_and_holds_up_no_other(
    jobs: Jobs,
    tenant_id: UUID,
    receiver: Receiver,
    webhook: Webhook,
    courier: Run,
    database: Database,
) -> None:
    """Whatever its data is: one claim takes deliveries of all tenants."""
    first, second = [await end_a_job(jobs, tenant_id) for _ in range(2)]
    odd = (
        {"type": "job.paused", "data": "[1]"},
        {"type": "job.cancelled", "data": f'{{"n":{2**70}}}'},
    )
    for job_id, change in zip((first, second), odd, strict=True):
        await rows(
            database,
            "UPDATE events SET type = :type, data = CAST(:data AS jsonb)"
            " WHERE job_id = :id AND seq = 2 RETURNING seq",
            id=job_id,
            **change,
        )
    third = await end_a_job(jobs, tenant_id)
    async with courier():
        await settled(database, *["delivered"] * 3)
    bodies = sorted((json.loads(heard["body"]) for heard in receiver.heard), key=str)
    by_job = {body["data"]["job_id"]: body for body in bodies}
    assert by_job.keys() == {str(first), str(second), str(third)}
    assert by_job[str(first)]["type"] == "job.paused"
    assert by_job[str(first)]["data"] == {"job_id": str(first), "seq": 2}
    assert by_job[str(second)]["data"]["n"] == 2**70
