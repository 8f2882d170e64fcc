"""The wheel has all that the service needs, without the repository."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.images.wheel import build_wheel, install_wheel, run, sent_files


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def commands(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_wheel(wheel, tmp_path_factory.mktemp("installed"))


def test_it_has_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    names = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {name for name in sent_files() if name.startswith(("serve/", "pipelines/"))}


def test_it_has_every_licence(wheel: Path) -> None:
    names = {name.partition("/licenses/")[2] for name in ZipFile(wheel).namelist()}
    assert names - {""} == {
        "LICENSE",
        "pipelines/embedded/model/THIRD_PARTY_NOTICES.md",
        "serve/reference/LICENSE.scalar",
        "serve/reference/NOTICE.md",
    }


def test_its_commands_run(commands: Path, tmp_path: Path) -> None:
    assert "Serve text-to-image diffusion models" in run(
        [str(commands / "sfumato"), "--help"], tmp_path
    )
    assert (commands / "sfumato-haproxy").exists()


def test_what_serve_deploy_imports_is_in_it(commands: Path, tmp_path: Path) -> None:
    code = "import serve.app, serve.deployments.proxy as p; print(serve.app.__file__, p.layers)"
    assert run([str(commands / "python"), "-c", code], tmp_path).startswith(str(commands.parent))
