"""Which certificate signs pictures, and whose are trusted.

C2PA's library and its cryptography take 25 MB of a process, so who needs them imports them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pipelines.imaging.errors import InvalidCertificate
from serve.errors import ServiceError
from serve.settings import Settings

if TYPE_CHECKING:
    from pipelines.imaging.credentials.sign import CredentialSigner
    from pipelines.imaging.credentials.verify import Verifier

_CERTIFICATE = "certificate.pem"
_PRIVATE_KEY = "private-key.pem"


class NoCredentials(ServiceError):
    """A certificate or its key is missing, or cannot sign pictures; the message has the cure."""

    title: ClassVar[str] = "No certificate"
    example = "There is no certificate in .sfumato/credentials."


def make_pair(folder: Path) -> bool:
    """Write a self-made certificate and its key; False where there is one already.

    Raises:
        OSError: the folder cannot be written to.
    """
    from pipelines.imaging.credentials.certificate import self_made_pair

    if (folder / _CERTIFICATE).exists():
        return False
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    pair = self_made_pair()
    key = folder / _PRIVATE_KEY
    key.touch(mode=0o600)
    key.write_text(pair.private_key)
    (folder / _CERTIFICATE).write_text(pair.certificates)  # the last: there are both, or neither
    return True


def own_folder(settings: Settings) -> Path:
    """Where `sfumato up` keeps what it made itself."""
    return settings.data_dir / "credentials"


def open_signer(settings: Settings) -> CredentialSigner | None:
    """None where files are not signed.

    Raises:
        NoCredentials: they are to be, and cannot.
    """
    if not settings.credentials.enabled:
        return None
    from pipelines.imaging.credentials.certificate import KeyPair
    from pipelines.imaging.credentials.sign import CredentialSigner

    certificate, key = _paths(settings)
    try:
        return CredentialSigner(KeyPair(certificate.read_text(), key.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise NoCredentials(
            f"SFUMATO_CREDENTIALS__ENABLED needs a certificate and its key, and {certificate} and"
            f" {key} cannot be read ({error}): name others, or make them with `sfumato credentials"
            f" {certificate.parent}`."
        ) from error
    except InvalidCertificate as error:
        raise NoCredentials(f"{certificate} and {key}: {error}") from error


def open_verifier(settings: Settings) -> Verifier:
    """It trusts this service's own certificate, if there is one, and whoever it was told to.

    Raises:
        NoCredentials: a file that the settings name cannot be read.
    """
    from pipelines.imaging.credentials.verify import Verifier

    named = [settings.credentials.certificate, settings.credentials.trust]
    own = own_folder(settings) / _CERTIFICATE
    paths = [path for path in named if path is not None] or ([own] if own.exists() else [])
    try:
        return Verifier([path.read_text() for path in paths])
    except (OSError, UnicodeDecodeError, InvalidCertificate) as error:
        raise NoCredentials(f"The certificates of {paths} cannot be read: {error}") from error


def _paths(settings: Settings) -> tuple[Path, Path]:
    given = settings.credentials
    if given.certificate is not None and given.private_key is not None:
        return given.certificate, given.private_key
    folder = own_folder(settings)
    return folder / _CERTIFICATE, folder / _PRIVATE_KEY
