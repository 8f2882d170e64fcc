"""`serve deploy` as docs/deployment.md has it: its commands, on a Ray and servers of one's own."""

from __future__ import annotations

import copy
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import yaml
from ray.serve.schema import ServeApplicationSchema

from pipelines.embedded import MODEL_PATH
from serve.cli.up import PROXY_LAYERS, RAY_DEFAULTS
from serve.local.port import free_port
from serve.models.schemas import Declaration
from serve.settings import Settings
from tests.conftest import query
from tests.service.conftest import STOP_TIMEOUT_S, wait_for

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/deployment.md").read_text()
NEEDS_KUBERNETES = re.compile(r"kubectl |helm |[A-Z]+=")
EVERY_S = 0.5
DRAWING = {"prompt": "red heart", "num_inference_steps": 4}
DEPLOYMENTS = ("Diffusion", "Postprocess", "Ingress")
# Where it is and what it takes, so that it meets no other Ray of this machine.
APART = "--block --node-ip-address=127.0.0.1 --dashboard-host=127.0.0.1 --include-log-monitor=false"
PORTS = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
Json = dict[str, Any]


def found(kind: str, text: str) -> list[str]:
    """The blocks of commands, or of YAML."""
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    joined = block.replace("\\\n", " ")
    return [line.partition(" #")[0].strip() for line in joined.splitlines() if line.strip()]


def variables(exports: list[str]) -> dict[str, str]:
    return dict(command.removeprefix("export ").split("=", 1) for command in exports)


(_SECTION,) = re.findall(
    r"^## On a Ray cluster of your own\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL
)
VARIABLES, START, LOOK, CHANGE, STOP = (commands(block) for block in found("sh", _SECTION))
FILE, USER_CONFIG = (yaml.safe_load(block) for block in found("yaml", _SECTION))


class Cluster:
    """A Ray that `ray start` started, and the page's commands beside it."""

    def __init__(self, folder: Path, database_url: str, redis_url: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.key = ""
        ports = {name: free_port() for name in PORTS}
        self.dashboard = f"http://127.0.0.1:{ports['dashboard-port']}"
        self._apart = [*APART.split(), *(f"--{name}={port}" for name, port in ports.items())]
        ours = {name for name in os.environ if name.startswith(("SFUMATO_", "RAY_"))}
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ours},
            **variables(VARIABLES),
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "SFUMATO_CONFIG": str(folder / "sfumato.yaml"),
            "HOME": str(folder),  # Ray's token is there
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "RAY_DASHBOARD_ADDRESS": self.dashboard,
            "RAY_memory_monitor_refresh_ms": "0",  # the machine's memory is shared
        }
        self.environment.pop("OMP_NUM_THREADS", None)
        settings = {
            "port": self.port,
            "data_dir": str(folder / "data"),
            "worker": {"threads": 1, "drain_s": 1},
        }
        (folder / "sfumato.yaml").write_text(yaml.safe_dump(settings))
        config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
        config["http_options"] |= {"host": "127.0.0.1", "port": self.port}
        self._config = config
        self.write({}, {})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def write(self, user_config: Json, args: Json) -> None:
        """What a user edits in serve_config.yaml."""
        config = copy.deepcopy(self._config)
        (application,) = config["applications"]
        (ingress,) = application["deployments"]
        assert (application["args"], ingress) == ({}, {"name": "Ingress", "user_config": {}})
        application["args"], ingress["user_config"] = args, user_config
        (self.folder / "serve_config.yaml").write_text(yaml.safe_dump(config))

    def run(self, command: str) -> str:
        """What a command of the page prints."""
        done = subprocess.run(
            shlex.split(command),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self) -> None:
        """All that the page has up to a service that is ready."""
        for command in START:
            if command.startswith("ray start"):
                self._start_ray(command)
                continue
            told = self.run(command)
            if command.startswith("sfumato keys create"):
                self.key = self.environment["SFUMATO_API_KEY"] = told.split()[0]
        wait_for("the service to be ready", lambda: answers(f"{self.url}/ready"))

    def _start_ray(self, command: str) -> None:
        """Apart from every other Ray, until its dashboard answers."""
        temporary = f"--temp-dir={self.folder / 'ray'}"
        with (self.folder / "ray.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*shlex.split(command), *self._apart, "--num-cpus=4", temporary],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_for("Ray's dashboard", self._dashboard_answers)

    def _dashboard_answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "ray.log").read_text()
        return answers(f"{self.dashboard}/api/gcs_healthz")

    def client(self) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=120)

    def status(self) -> Json:
        """The application, from where `serve status` has it."""
        token = (self.folder / ".ray/auth_token").read_text()
        answer = httpx2.get(
            f"{self.dashboard}/api/serve/applications/",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            trust_env=False,
        )
        found: Json = answer.json()["applications"]["sfumato"]
        return found

    def replicas(self) -> dict[str, list[int]]:
        """Process ids, by deployment."""
        found: dict[str, list[int]] = {name: [] for name in DEPLOYMENTS}
        for part in self.parts():
            with suppress(psutil.NoSuchProcess):  # it may end while we look; a zombie has
                title = " ".join(part.cmdline())
                for name in DEPLOYMENTS:
                    if title.startswith(f"ray::ServeReplica:sfumato:{name}"):
                        found[name].append(part.pid)
        return found

    def parts(self) -> list[psutil.Process]:
        """The processes of this Ray, but for `ray start`."""
        if self.process is None or self.process.poll() is not None:
            return []
        return psutil.Process(self.process.pid).children(recursive=True)

    def close(self) -> None:
        """End this Ray alone."""
        if self.process is None:
            return
        parts = self.parts()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        finally:
            self.process.kill()  # if it is not gone
            for part in psutil.wait_procs(parts, timeout=10)[1]:
                part.kill()


def answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=5, trust_env=False).is_success
    except httpx2.HTTPError:
        return False


@pytest.fixture
def cluster(folder: Path, postgres_url: str, valkey_url: str) -> Iterator[Cluster]:
    query(postgres_url, "CREATE DATABASE served")  # an empty one: `sfumato migrate` fills it
    cluster = Cluster(folder, postgres_url.replace("@/sfumato?", "@/served?"), valkey_url)
    yield cluster
    cluster.close()
    query(postgres_url, "DROP DATABASE served WITH (FORCE)")


class Operator:
    """Changes the models by `serve deploy`, and looks at what has become of it."""

    def __init__(self, cluster: Cluster, client: httpx2.Client) -> None:
        self._cluster = cluster
        self._client = client

    def deploy(self, user_config: Json, args: Json | None = None) -> None:
        self._cluster.write(user_config, args or {})
        for command in CHANGE:
            self._cluster.run(command)

    def models(self) -> dict[str, int]:
        """On how many replicas each is."""
        return {model["name"]: model["ready"] for model in self._listed()["data"]}

    def error(self) -> str:
        """Why the last declaration was refused, if it was."""
        return self._listed()["declaration_error"] or ""

    def _listed(self) -> Any:
        return self._client.get("/v1/operator/models").json()

    def draw(self, model: str) -> int:
        body = {**DRAWING, "model": model}
        return self._client.post("/v1/images/generations", json=body).status_code


class Trickle:
    """Draws a picture every half second until it is left, and keeps what was answered."""

    def __init__(self, client: httpx2.Client) -> None:
        self.answers: list[int | str] = []
        self._client = client
        self._left = threading.Event()
        self._pool = ThreadPoolExecutor(16)

    def __enter__(self) -> Trickle:
        self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._pool.shutdown()

    def _run(self) -> None:
        while not self._left.wait(EVERY_S):
            self._pool.submit(self._draw)

    def _draw(self) -> None:
        try:
            answer = self._client.post("/v1/images/generations", json=DRAWING)
        except httpx2.HTTPError as error:
            self.answers.append(repr(error))
        else:
            self.answers.append(answer.status_code)


def test_models_change_by_serve_deploy_without_a_lost_request(cluster: Cluster) -> None:
    """Its commands are those of the page, in its order."""
    cluster.start()
    told = httpx2.get(f"{cluster.dashboard}/api/version", trust_env=False)
    assert told.status_code == 401, "the dashboard asks for Ray's token"
    for command in LOOK:
        cluster.run(command)
    before = cluster.replicas()
    assert all(before.values()), before

    with cluster.client() as client:
        operator = Operator(cluster, client)
        with Trickle(client) as trickle:
            wait_for("a picture of the trickle", lambda: bool(trickle.answers))
            change_models(cluster, operator)
            asked = len(trickle.answers)
            wait_for("some more pictures", lambda: len(trickle.answers) > asked + 2)
    assert set(trickle.answers) == {200}
    assert len(trickle.answers) > 10
    assert cluster.replicas() == before
    status = cluster.status()
    states = {name: each["status"] for name, each in status["deployments"].items()}
    assert (status["status"], states) == ("RUNNING", dict.fromkeys(DEPLOYMENTS, "HEALTHY"))

    for command in STOP:
        cluster.run(command)
    wait_for("no replica", lambda: not any(cluster.replicas().values()))


def change_models(cluster: Cluster, operator: Operator) -> None:
    """Good declarations, and wrong ones, which change nothing."""
    good: Json = {"models": {"twin": {"path": str(MODEL_PATH), "default_steps": 6}}}
    operator.deploy(good)
    wait_for("twin on a replica", lambda: operator.models().get("twin") == 1)
    assert operator.draw("twin") == 200

    wrong: list[tuple[Json, str]] = [
        ({"models": {"empty": None}, "modles": {}}, "modles"),
        ({"models": {"lost": {"path": str(cluster.folder / "none")}}}, "no model folder"),
    ]
    for user_config, reason in wrong:
        operator.deploy(user_config)
        wait_for(f"a refusal for {reason}", partial(refused, operator, reason))
        assert operator.models() == {"sfumato-embedded": 1, "twin": 1}
        assert operator.draw("twin") == 200
    status = cluster.status()
    assert status["status"] == "RUNNING", status["message"]

    operator.deploy(good, args={"wroker": {}})
    wait_for("Serve's refusal", lambda: cluster.status()["status"] == "DEPLOY_FAILED")
    assert "the nearest is SFUMATO_WORKER" in cluster.status()["message"]
    assert operator.draw("twin") == 200

    operator.deploy({})
    wait_for("twin to be gone", lambda: operator.draw("twin") == 404)
    assert operator.error() == ""


def refused(operator: Operator, reason: str) -> bool:
    return reason in operator.error()


def test_the_page_names_the_variables_of_up() -> None:
    given = variables(VARIABLES)
    wanted = {**RAY_DEFAULTS, "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": PROXY_LAYERS}
    del wanted["RAY_memory_monitor_refresh_ms"]  # on a node of its own the memory is Ray's
    assert {name: given.get(name) for name in wanted} == wanted


def test_the_page_has_settings_and_a_declaration() -> None:
    settings = Settings(**FILE)
    (ingress,) = ServeApplicationSchema(
        import_path="serve.app:build_app", **USER_CONFIG
    ).deployments
    assert ingress.name == "Ingress"
    declared = Declaration.model_validate(ingress.user_config)
    assert {model.pool for model in declared.models} <= settings.served_pools.keys()
    assert set(declared.paused) <= settings.served.keys()


def test_every_other_command_of_the_page_needs_kubernetes() -> None:
    """Which the page says has not been run."""
    every = [command for block in found("sh", PAGE) for command in commands(block)]
    run = [*VARIABLES, *START, *LOOK, *CHANGE, *STOP]
    left = [command for command in every if command not in run]
    assert [command for command in left if not NEEDS_KUBERNETES.match(command)] == []
