"""One running service for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serve.local.port import free_port
from tests.service.conftest import Service, short_folder, start


@pytest.fixture(scope="package")
def service() -> Iterator[Service]:
    for folder in short_folder():
        service = start(folder, free_port())
        yield service
        if service.process.poll() is None:
            assert service.stop() == 0, service.output
