"""One running service for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.local.port import free_port
from tests.service.conftest import KEY, Service, short_folder, start, wait_for
from tests.service.secrecy import entrust, files_below, tellers

URL_SECRET = "what-no-log-may-hold-and-signs-urls"


@pytest.fixture(scope="package")
def service() -> Iterator[Service]:
    """None of its logs may hold a secret in the end, whatever the tests have asked of it."""
    for folder in short_folder():
        settings = {
            "SFUMATO_HTTP__URL_SECRET": URL_SECRET,
            "SFUMATO_LOG_FORMAT": "json",
            "RAY_metrics_report_interval_ms": "1000",  # ten seconds by default
        }
        service = start(folder, free_port(), **settings)
        yield service
        if service.process.poll() is None:
            secrets = confided(service)
            logs = files_below(service.ray_logs)
            assert service.stop() == 0, service.output
            logs += files_below(folder / "data" / "logs")
            assert tellers([*secrets, KEY], logs) == {}
            # The terminal is told the key, once, and the prompts not at all.
            assert tellers(secrets, [folder / "up.log"]) == {}


def confided(service: Service) -> list[str]:
    """Secrets that the service has handled, once its logs tell of them whatever they will."""
    with service.client() as client:
        secrets = entrust(client)
    logs = [log for log in files_below(service.ray_logs) if "Ingress" in log.name]
    tried = "courier.tried"
    wait_for("the courier tries", lambda: any(tried in log.read_text() for log in logs))
    token = Path("~/.ray/auth_token").expanduser().read_text().strip()
    return [*secrets, URL_SECRET, token]
