"""What a tenant may not make this service connect to."""

from __future__ import annotations

import socket
from uuid import UUID

import pytest

from serve.database import Database
from serve.jobs.lifecycle import Jobs
from serve.webhooks.errors import InvalidUrl
from serve.webhooks.outbound import checked_url, is_public
from serve.webhooks.subscriptions import Webhooks
from tests.serve.conftest import ask
from tests.serve.webhooks.conftest import TERMINAL, Run, rows, settled, states
from tests.serve.webhooks.receiver import Receiver, receiving

PUBLIC = ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "64:ff9b::1.1.1.1", "::ffff:1.1.1.1"]
NOT_PUBLIC = [
    "0.0.0.0",  # noqa: S104
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",  # Teredo
    "2001:db8::1",
    "2002:7f00:1::",  # 6to4
    "2002:101:101::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "ff02::1",
]
REFUSED = [
    "",
    "example.com/hook",
    "/hook",
    "https:///hook",
    "http://example.com/hook",
    "ftp://example.com/hook",
    "file:///etc/passwd",
    "gopher://example.com",
    "https://user@example.com/",
    "https://user:secret@example.com/",
    "https://example.com/#part",
    "https://example.com:22/",
    "https://example.com:0/",
    "https://example.com:99999/",
    "https://example.com:x/",
    "https://localhost/",
    "https://LOCALHOST./",
    "https://db.localhost:5432/",
    "https://127.0.0.1/",
    "https://10.0.0.1:8443/",
    "https://0177.0.0.1/",
    "https://[::1]/",
    "https://[::ffff:169.254.169.254]/",
    "https://[fd00:ec2::254]/",
    "https://exa mple.com/",
    "https://example.com/\r\nX-Evil: 1",
    "https://example.com/\x00",
    "https://example.com/" + "x" * 2000,
]
NUMBERS = ["2130706433", "0x7f000001", "127.1", "0x7f.1"]


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("url", REFUSED)
def test_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidUrl) as refusal:
        checked_url(url, allow_private=False)
    assert refusal.value.param == "url"
    assert "secret" not in refusal.value.message


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/hook?tenant=1",
        "https://bücher.example/hook",
        "https://[2606:4700:4700::1111]/",
        "https://1.1.1.1:443/",
    ],
)
def test_taken(url: str) -> None:
    checked_url(url, allow_private=False)


def test_private_ones_by_setting() -> None:
    for url in ("http://localhost:9000/", "https://10.0.0.1/", "http://[::1]:80/"):
        checked_url(url, allow_private=True)
    with pytest.raises(InvalidUrl):
        checked_url("http://localhost:22/", allow_private=True)


async def deliver(
    url: str,
    webhooks: Webhooks,
    jobs: Jobs,
    tenant_id: UUID,
    database: Database,
    courier: Run,
) -> str | None:
    """What becomes of one delivery to ``url`` by a courier that keeps to public addresses."""
    webhook = await webhooks.create(tenant_id, "https://placeholder.example/", TERMINAL)
    await rows(
        database,
        "UPDATE webhooks SET url = :url WHERE id = :id RETURNING id",
        url=url,
        id=webhook.id,
    )
    job = await jobs.submit(tenant_id, ask())
    await jobs.cancel(tenant_id, job.id)
    async with courier(allow_private=False, attempts=1):
        await settled(database, "dead")
    [(_, _, _, error)] = await states(database)
    return error


@pytest.mark.parametrize("host", NUMBERS)
async def test_other_spellings_of_loopback_are_found_out_when_connecting(
    host: str, webhooks: Webhooks, jobs: Jobs, tenant_id: UUID, database: Database, courier: Run
) -> None:
    async with receiving(Receiver()) as receiver:
        port = receiver.address.rpartition(":")[2]
        error = await deliver(
            f"https://{host}:{port}/", webhooks, jobs, tenant_id, database, courier
        )

    assert error == "The host has no public address."
    assert receiver.heard == []


@pytest.mark.parametrize(
    "answers", [["127.0.0.1"], ["1.1.1.1", "127.0.0.1"], ["::1", "2606:4700:4700::1111"]]
)
async def test_a_public_looking_name_that_leads_inwards(
    answers: list[str],
    webhooks: Webhooks,
    jobs: Jobs,
    tenant_id: UUID,
    database: Database,
    courier: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lookups = resolve_to(monkeypatch, "rebind.example", answers)

    error = await deliver("https://rebind.example/", webhooks, jobs, tenant_id, database, courier)

    assert error == "The host has no public address."
    assert lookups == ["rebind.example"]


async def test_plain_http_is_refused_once_the_setting_is_off(
    webhooks: Webhooks, jobs: Jobs, tenant_id: UUID, database: Database, courier: Run
) -> None:
    async with receiving(Receiver()) as receiver:
        error = await deliver(receiver.address, webhooks, jobs, tenant_id, database, courier)

    assert error == "url must begin with https://."
    assert receiver.heard == []


def resolve_to(monkeypatch: pytest.MonkeyPatch, name: str, addresses: list[str]) -> list[str]:
    """Let DNS give these for ``name``; the list returned grows with each lookup."""
    resolve = socket.getaddrinfo
    lookups: list[str] = []

    def answer(host: str, port: int, *args: object, **options: object) -> list[object]:
        if host != name:
            return list(resolve(host, port, *args, **options))  # type: ignore[arg-type]
        lookups.append(host)
        return [
            entry
            for address in addresses
            for entry in resolve(address, port, type=socket.SOCK_STREAM)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return lookups
