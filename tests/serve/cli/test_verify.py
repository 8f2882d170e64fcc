"""What `sfumato verify` says, and the certificate that `sfumato credentials` makes."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.imaging.encode import encode
from pipelines.imaging.format import PictureFormat
from serve.cli.checks import check_credentials
from serve.cli.main import app
from serve.pictures.credentials import NoCredentials, open_signer
from serve.settings import CredentialSettings, Settings
from tests.pipelines.imaging.pictures import scene


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a pair that the command made."""
    made = CliRunner().invoke(app, ["credentials", str(tmp_path / "pair")])
    assert made.exit_code == 0, made.output
    assert made.stdout.startswith("Made ")
    return tmp_path / "pair"


def settings_of(folder: Path) -> Settings:
    certificate, key = folder / "certificate.pem", folder / "private-key.pem"
    return Settings(
        credentials=CredentialSettings(enabled=True, certificate=certificate, private_key=key)
    )


def test_a_pair_is_made_once_and_its_key_is_private(folder: Path) -> None:
    before = (folder / "certificate.pem").read_text()
    again = CliRunner().invoke(app, ["credentials", str(folder)])

    assert again.stdout.startswith("Kept ")
    assert (folder / "certificate.pem").read_text() == before
    assert stat.S_IMODE((folder / "private-key.pem").stat().st_mode) == 0o600


def test_what_is_signed_is_told_in_lines_and_as_json(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_CREDENTIALS__TRUST", str(folder / "certificate.pem"))
    signer = open_signer(settings_of(folder))
    assert signer is not None
    file = tmp_path / "heart.png"
    file.write_bytes(signer.sign(encode(scene(16, 16)), PictureFormat.PNG, {"seed": 7}))

    lines = CliRunner().invoke(app, ["verify", str(file)])
    assert lines.exit_code == 0, lines.output
    assert "signer      Sfumato (self-made)\n" in lines.stdout
    told = json.loads(CliRunner().invoke(app, ["verify", str(file), "--json"]).stdout)
    assert (told["status"], told["source_type"]) == ("trusted", "trainedAlgorithmicMedia")
    content = bytearray(file.read_bytes())
    content[-20] ^= 1  # of the pixels' checksum
    file.write_bytes(content)
    altered = CliRunner().invoke(app, ["verify", str(file)])
    assert altered.exit_code == 1
    assert "✗ " in altered.stdout


def test_an_unsigned_file_and_one_that_is_no_picture(tmp_path: Path) -> None:
    file = tmp_path / "heart.png"
    file.write_bytes(encode(scene(16, 16)))
    unsigned = CliRunner().invoke(app, ["verify", str(file)])
    assert (unsigned.exit_code, unsigned.stdout.count("\n")) == (1, 1)
    file.write_bytes(b"text")
    assert "not a PNG, JPEG, WebP or AVIF" in CliRunner().invoke(app, ["verify", str(file)]).stderr


def test_what_cannot_sign_is_told_with_the_cure(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NoCredentials, match="sfumato credentials"):
        open_signer(settings_of(tmp_path / "nowhere"))
    (folder / "private-key.pem").write_text("no key")
    finding = check_credentials(settings_of(folder))
    assert "PEM" in finding.cure
    assert check_credentials(Settings()).cure == ""
    with pytest.raises(ValueError, match="or neither"):
        CredentialSettings(certificate=folder / "certificate.pem")
