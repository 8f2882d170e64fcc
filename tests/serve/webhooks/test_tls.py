"""Over https the certificate must be the name's, although the connection goes to an address."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from serve.webhooks.outbound import Outbound
from serve.webhooks.repository import Answer, Attempt
from serve.webhooks.signature import spell
from tests.serve.webhooks.conftest import hasty
from tests.serve.webhooks.receiver import Receiver, receiving
from tests.serve.webhooks.test_address import resolve_to

KEY = b"k" * 32


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Of hooks.example, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    cert, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert, private


async def post(url: str, trusted: Path | None) -> Answer:
    now = datetime.datetime.now(datetime.UTC)
    attempt = Attempt(
        delivery_id=uuid4(),
        webhook_id=uuid4(),
        tenant_id=UUID(int=0),
        job_id=uuid4(),
        number=1,
        lease_until=now,
        claimed_at=now,
        url=url,
        keys=(KEY,),
        body=b'{"type": "job.succeeded"}',
    )
    tls = ssl.create_default_context(cafile=trusted) if trusted else None
    outbound = Outbound(hasty(), tls)
    try:
        return await outbound.post(attempt)
    finally:
        await outbound.aclose()


async def test_name_is_kept_for_tls_and_host(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, "hooks.example", ["127.0.0.2", "127.0.0.1"])  # nobody is at the first
    async with receiving(Receiver(), certificate) as receiver:
        port = receiver.address.rpartition(":")[2]
        answer = await post(f"https://hooks.example:{port}/a?b=c", certificate[0])

    assert answer == Answer(204)
    assert receiver.heard[0]["host"] == f"hooks.example:{port}"
    assert receiver.verified(spell(KEY)) == {"type": "job.succeeded"}


async def test_certificate_of_another_name(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, "other.example", ["127.0.0.1"])
    async with receiving(Receiver(), certificate) as receiver:
        port = receiver.address.rpartition(":")[2]
        answer = await post(f"https://other.example:{port}/", certificate[0])

    assert not answer.delivered
    assert "certificate verify failed" in (answer.error or "")
    assert receiver.heard == []


async def test_certificate_of_nobody(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, "hooks.example", ["127.0.0.1"])
    async with receiving(Receiver(), certificate) as receiver:
        port = receiver.address.rpartition(":")[2]
        answer = await post(f"https://hooks.example:{port}/", None)

    assert "certificate verify failed" in (answer.error or "")
    assert receiver.heard == []


async def test_plain_http_where_tls_is_asked_for() -> None:
    async with receiving(Receiver()) as receiver:
        answer = await post(receiver.address.replace("http:", "https:"), None)

    assert "connection failed" in (answer.error or "")
    assert receiver.heard == []
