"""Both Dockerfiles, as far as that can be told without building them."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from serve.api.health import router
from serve.cli.up import PROXY_LAYERS, RAY_DEFAULTS
from serve.environment import read_settings
from tests.images.dockerfile import DOCKERFILES, ROOT, Dockerfile, is_sent
from tests.images.wheel import sent_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = {"Dockerfile": ["local"], "Dockerfile.gpu": ["local", "gpu"]}


@pytest.fixture(params=DOCKERFILES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dockerfile(name: str) -> Dockerfile:
    return Dockerfile.named(name)


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {canonicalize_name(package): version for package, version in pairs}


def test_hadolint_finds_nothing(name: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run(
        [hadolint, "--no-color", "--failure-threshold", "style", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (linted.returncode, linted.stdout) == (0, "")


def test_bases_are_pinned_to_a_version(dockerfile: Dockerfile) -> None:
    bases = {base for base in dockerfile.stages.values() if base not in dockerfile.stages}
    assert [base for base in bases if not re.search(r":\d+\.\d+\.\d+-", base)] == []
    (base,) = bases
    named = dockerfile.last["LABEL"].pairs["org.opencontainers.image.base.name"]
    assert named == f"docker.io/library/{base}"


def test_python_is_the_one_that_the_lock_is_for(dockerfile: Dockerfile) -> None:
    version = re.search(r"python:(\d+)\.(\d+)\.\d+", dockerfile.stages["python"])
    assert version is not None
    assert f"py{version[1]}{version[2]}" == PROJECT["tool"]["ruff"]["target-version"]
    assert f"{version[1]}.{version[2]}" in SpecifierSet(PROJECT["project"]["requires-python"])


def test_it_installs_the_locked_version_of_every_dependency(
    name: str, dockerfile: Dockerfile, tmp_path: Path
) -> None:
    installs = [each for each in dockerfile.every("RUN") if each.stage == "dependencies"]
    text = " && ".join(each.text for each in installs)
    commands = [each for each in text.split(" && ") if " install " in each]
    assert all("--constraint requirements.lock" in command for command in commands)
    # The Dockerfile's own line that tells pip what to install.
    code = re.search(r'python -c "([^"]+)" > requirements\.txt', text)
    assert code is not None
    for copied in ("pyproject.toml", "requirements.lock"):
        (tmp_path / copied).write_bytes((ROOT / copied).read_bytes())
    written = subprocess.run(
        [sys.executable, "-c", code[1]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    wanted = PROJECT["project"]["dependencies"] + [
        each
        for extra in EXTRAS[name]
        for each in PROJECT["project"]["optional-dependencies"][extra]
    ]
    assert written.splitlines() == wanted
    versions = locked()
    for requirement in map(Requirement, wanted):
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier


def test_no_version_of_a_python_package_is_written_in_it(name: str) -> None:
    assert re.findall(r"\b[a-z0-9-]+==[\w.+]+", (ROOT / name).read_text()) == []


def test_it_runs_as_a_numbered_user_without_rights(dockerfile: Dockerfile) -> None:
    user, _, group = dockerfile.last["USER"].text.partition(":")
    assert int(user) == int(group) >= 10_000
    (making,) = [each.text for each in dockerfile.every("RUN") if "useradd" in each.text]
    assert f"useradd --uid {user} --user-group" in making
    data = dockerfile.environment["SFUMATO_DATA_DIR"]
    assert dockerfile.last["VOLUME"].text == data
    assert f"-o sfumato -g sfumato {data}" in making


def test_no_shell_stands_between_the_container_and_the_service(dockerfile: Dockerfile) -> None:
    command = dockerfile.last["ENTRYPOINT"].command + dockerfile.last["CMD"].command
    assert command == ["tini", "--", "sfumato", "up"]
    assert dockerfile.last["HEALTHCHECK"].command[0] == "python"


def test_it_has_what_kuberay_calls(dockerfile: Dockerfile) -> None:
    """`bash -c "ulimit …; ray start …"`, and a probe of bash, wget and grep.

    Debian's smallest set of packages has bash and grep.
    """
    (installing,) = [each.text for each in dockerfile.every("RUN") if "apt-get" in each.text]
    assert " wget=" in installing
    assert dockerfile.environment["PATH"] == "/opt/sfumato/bin:$PATH"
    assert r'"PATH=/opt/sfumato/bin:\$PATH" > /etc/profile.d/sfumato.sh' in installing


def test_its_health_check_asks_a_route_that_exists(dockerfile: Dockerfile) -> None:
    asked: list[str] = []
    with answering(200, asked) as port:
        assert check(dockerfile, port) == 0
    assert set(asked) <= {getattr(route, "path", None) for route in router.routes}


def test_its_health_check_fails_where_the_service_does(dockerfile: Dockerfile) -> None:
    with answering(503, []) as port:
        assert check(dockerfile, port) == 1
    assert check(dockerfile, port) == 1


def check(dockerfile: Dockerfile, port: int) -> int:
    _, *rest = dockerfile.last["HEALTHCHECK"].command
    # A proxy that nothing listens at: what the check asks must not pass through one.
    environment = {"SFUMATO_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    ended = subprocess.run(
        [sys.executable, *rest], env=environment, capture_output=True, timeout=30, check=False
    )
    return ended.returncode


@contextmanager
def answering(status: int, asked: list[str]) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_every_variable_that_it_sets_is_one(
    dockerfile: Dockerfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in dockerfile.environment.items():
        if variable.startswith("SFUMATO_"):
            monkeypatch.setenv(variable, value)
    assert read_settings().host == "0.0.0.0"  # noqa: S104
    defaults = RAY_DEFAULTS | {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": PROXY_LAYERS}
    set_here = {
        variable: value
        for variable, value in dockerfile.environment.items()
        if variable.startswith("RAY_") or variable in defaults
    }
    assert set_here.items() <= defaults.items()
    deploy = (ROOT / "README.md").read_text().partition("\n## Deploy")[2].partition("\n## ")[0]
    table = re.findall(r"`(RAY_\w+)=([^`]+)`", deploy.partition("HAProxy")[0])
    assert dict(table).items() <= set_here.items()


def test_what_it_copies_is_there_and_sent(dockerfile: Dockerfile) -> None:
    sent = sent_files()
    for copy in dockerfile.every("COPY"):
        for place in copy.words[:-1]:
            if "from" in copy.flags:
                assert copy.flags["from"] in dockerfile.stages
            else:
                assert any(file == place or file.startswith(f"{place}/") for file in sent), place


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".git/config",
        ".sfumato/api_key",
        ".venv/bin/python",
        "docs/images.md",
        "models/sdxl/unet/model.safetensors",
        "pipelines/embedded/train/classifier.safetensors",
        "serve/__pycache__/app.cpython-311.pyc",
        "tests/conftest.py",
    ],
)
def test_no_build_gets(path: str) -> None:
    assert not is_sent(path)


def test_a_build_gets_the_packages_whole() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "serve", "pipelines"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    left_out = {name for name in tracked if (ROOT / name).is_file() and not is_sent(name)}
    assert {name for name in left_out if not name.startswith("pipelines/embedded/train/")} == set()


def test_it_holds_no_secret(dockerfile: Dockerfile) -> None:
    names = {
        name for each in ("ARG", "ENV") for one in dockerfile.every(each) for name in one.pairs
    }
    assert [name for name in names if re.search(r"KEY|TOKEN|PASS|SECRET|URL", name)] == []


def test_it_says_what_it_is(dockerfile: Dockerfile) -> None:
    labels = dockerfile.last["LABEL"].pairs
    defaults = {
        name: value for each in dockerfile.every("ARG") for name, value in each.pairs.items()
    }
    assert labels["org.opencontainers.image.version"] == "$VERSION"
    assert defaults["VERSION"] == PROJECT["project"]["version"]
    assert labels["org.opencontainers.image.licenses"] == PROJECT["project"]["license"]
    assert {
        f"org.opencontainers.image.{each}" for each in ("title", "description", "revision")
    } <= {*labels}
