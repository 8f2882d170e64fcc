"""Whatever is sent, the answer is one that the OpenAPI document promises: schemathesis says what
is sent, the same in every run. Left out is the WebSocket, which OpenAPI knows nothing of."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.checks import (
    ignored_auth,
    negative_data_rejection,
    not_a_server_error,
    positive_data_acceptance,
)
from schemathesis.config import (
    GenerationConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.generation import GenerationMode
from schemathesis.transport.serialization import Binary

from pipelines.embedded import MODEL_PATH
from serve.settings import JobSettings, Settings
from tests.conftest import new_database, query
from tests.serve.api.conftest import MODEL
from tests.serve.api.described import Json, described, faults, operations, resolved
from tests.serve.api.refusals.uploads import data_url
from tests.serve.api.served import served

Case = schemathesis.Case[Any]
LEAST_CASES = 5000
WITH_KEY = 65
WITHOUT_KEY = 15
WITH_FILES = 30
"""Cases of one operation at most, beside those that cover its parameters one by one."""
TAKES_FILES = "^/v1/(images/(edits|variations|inspect|verify)|edits)$"
DESTROYS = {"deleteAlbum", "deleteImage", "deletePictures", "removeWebhook", "revokeKey"}
UNFINISHED = "SELECT id FROM jobs WHERE state IN ('queued', 'running') LIMIT 1"
TWIN = {"name": "twin", "path": str(MODEL_PATH)}
"""It may be paused and removed, and no other is."""
KINDS = [Phase.explicit, Phase.generate]  # one that fails is told as it is, not shrunk

EXPECTED_5XX = {("generate", 504), ("edit", 504), ("vary", 504), ("ready", 503)}
"""A picture that was waited for in vain; no replica that draws."""
EXPECTED = {
    *((name, 200) for name in ("generate", "getJob", "followJob", "getImage", "download")),
    *((name, 200) for name in ("getWebhook", "listDeliveries", "rotateSecret", "ready")),
    *((name, 200) for name in ("edit", "vary", "listImages", "changeImage", "changeTenant")),
    *((name, 200) for name in ("getTenant", "listTenants", "listKeys", "getUsage")),
    *((name, 201) for name in ("addWebhook", "makeKey", "makeTenant", "issueTicket")),
    *((name, 204) for name in DESTROYS),
    ("edit", 400),
    ("generate", 400),
    ("generate", 504),
    *((name, 200) for name in ("getAlbum", "listAlbums", "changeAlbum", "lookOver")),
    ("makeAlbum", 201),
    ("putPicture", 204),
    ("takePicture", 204),
    ("submitEdit", 202),
    ("submitEdit", 422),
    ("submitJob", 202),
    ("submitJob", 422),
    ("cancelJob", 409),
    ("addWebhook", 409),
    ("retryDelivery", 202),
    ("retryDelivery", 409),
}
"""Answers that must occur, lest the test be about refusals alone."""


def promised() -> Json:
    """The document without "default", which would promise any status."""
    document = described()
    for _, operation in operations(document):
        del operation["responses"]["default"]
    return document


DOCUMENT = described()
EMPTY = ("", None, "null")
project = ProjectConfig(generation=GenerationConfig(with_security_parameters=False))
schema = schemathesis.openapi.from_dict(
    promised(), config=SchemathesisConfig(projects=ProjectsConfig(default=project))
)
picture = io.BytesIO()
Image.new("RGB", (8, 8), "red").save(picture, "png")
schemathesis.openapi.format(
    "binary", (st.just(picture.getvalue()) | st.binary(max_size=64)).map(Binary)
)
once = settings(derandomize=True, phases=KINDS, suppress_health_check=list(HealthCheck))
sent: Counter[tuple[str, int]] = Counter()
"""With a key, by operation and status."""
unwelcome: Counter[str] = Counter()
"""Without one, by operation."""
turns = count()


@dataclass(frozen=True, slots=True)
class Service:
    database_url: str
    address: str
    headers: dict[str, str]
    there: dict[str, str]
    """Path parameters of what exists."""
    spare: dict[str, str]
    """The same of what may be destroyed."""

    def found_by(self, case: Case) -> dict[str, str]:
        """The case's path parameters, of what exists."""
        there = self.spare if _name(case) in DESTROYS else self.there
        return {name: there[name] for name in case.path_parameters}

    def wait_until_idle(self) -> None:
        """What was sent before is drawn."""
        deadline = time.monotonic() + 60
        while query(self.database_url, UNFINISHED):
            assert time.monotonic() < deadline, "what was sent before is not drawn"
            time.sleep(0.05)


# Without any parameter schemathesis' items have one node id together under pytest 9, and of those
# that share an id pytest-xdist runs one.
@pytest.fixture(scope="module", params=["http"])
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.fixture(scope="module")
def service(
    postgres_url: str,
    template_database: str,
    valkey_url: str,
    tmp_path_factory: pytest.TempPathFactory,
    session: requests.Session,
) -> Iterator[Service]:
    """With two finished jobs, and webhooks that could not be told of them."""
    with new_database(postgres_url, template_database) as database_url:
        settings = Settings(
            database_url=database_url,
            redis_url=valkey_url,
            data_dir=tmp_path_factory.mktemp("served"),
            jobs=JobSettings(wait_timeout_s=0.5),
        )
        with served(settings, MODEL) as (address, key):
            headers = {"Authorization": f"Bearer {key}"}

            def ask(verb: str, path: str, body: Json | None = None) -> Json:
                answer = session.request(verb, address + path, json=body, headers=headers)
                answer.raise_for_status()
                told: Json = answer.json()
                return told

            def drawn() -> Json:
                job = ask("POST", "/v1/jobs", {"prompt": "a red heart", "seed": 0})
                while job["state"] != "succeeded":
                    time.sleep(0.05)
                    job = ask("GET", f"/v1/jobs/{job['id']}")
                return job

            hook = {"url": "https://example.com/hook"}
            webhooks = [ask("POST", "/v1/webhooks", hook)["id"] for _ in range(2)]
            jobs = [drawn() for _ in range(2)]
            query(database_url, "UPDATE deliveries SET failed_at = now()")
            tenant = ask("POST", "/v1/tenants", {"name": "second"})
            key_of_tenant = ask("POST", "/v1/keys", {"name": "its", "tenant_id": tenant["id"]})
            path = f"/v1/webhooks/{webhooks[0]}/deliveries"
            there, spare = (
                {"job_id": job["id"], "image_id": job["images"][0]["id"], "webhook_id": webhook}
                for job, webhook in zip(jobs, webhooks, strict=True)
            )
            there |= {
                "variant": "original",
                "model_id": settings.model.name,
                "delivery_id": ask("GET", path)["data"][0]["id"],
                "tenant_id": tenant["id"],
                "model": ask("POST", "/v1/operator/models", TWIN)["name"],
                "name": "ink",
                "album_id": ask("POST", "/v1/albums", {"name": "first"})["id"],
            }
            spare["album_id"] = ask("POST", "/v1/albums", {"name": "spare"})["id"]
            spare["key_id"] = key_of_tenant["id"]
            yield Service(database_url, address, headers, there, spare)


def breaks_only_as_expected(
    _context: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> None:
    assert response.status_code < 500 or (_name(case), response.status_code) in EXPECTED_5XX


def refuses_what_breaks_the_schema(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> None:
    """Less what breaks it by what is empty alone: that counts as left out."""
    if case.meta is not None and _is_sound_without_what_is_empty(case):
        return
    negative_data_rejection(context, response, case)


def _is_sound_without_what_is_empty(case: Case) -> bool:
    body = _without_empty(case.body)
    sent: list[Json] = [dict(each) for each in (case.query, case.headers) if each]
    if body == case.body and sent == [_without_empty(each) for each in sent]:
        return False
    content = case.operation.definition.raw.get("requestBody", {}).get("content", {})
    told = content.get(case.media_type, {}).get("schema", {})
    return not content or not faults(DOCUMENT, resolved(DOCUMENT, told), body)


def _without_empty(sent: Any) -> Any:
    if isinstance(sent, list):
        return [_without_empty(each) for each in sent]
    if not isinstance(sent, dict):
        return sent
    return {name: _without_empty(each) for name, each in sent.items() if not _is_empty(each)}


def _is_empty(sent: Any) -> bool:
    return all(map(_is_empty, sent)) if isinstance(sent, list) else sent in EMPTY


@schema.exclude(path_regex=TAKES_FILES).parametrize()
@settings(once, max_examples=WITH_KEY)
def test_answers_as_promised(case: Case, service: Service, session: requests.Session) -> None:
    if _asks_well(case) and next(turns) % 2:
        case.path_parameters |= service.found_by(case)
        if _name(case) == "submitJob":  # a prompt at random hardly ever goes with a mode at random
            themed = isinstance(case.body, dict) and "theme" in case.body
            mode = {"mode": "autonomous"} if themed else {"prompt": "a red heart"}
            case.body = {**mode, "seed": 0}
    _send(case, service, session, refuses_what_breaks_the_schema)


@schema.include(path_regex=TAKES_FILES).parametrize()
@settings(once, max_examples=WITH_FILES)
def test_answers_files_as_promised(case: Case, service: Service, session: requests.Session) -> None:
    # Of a dozen values at random hardly ever all can be drawn.
    if _asks_well(case) and isinstance(case.body, dict) and next(turns) % 2:
        prompt = {"prompt": "a red heart"} if "prompt" in case.body else {}
        service.wait_until_idle()
        if case.media_type == "application/json":
            case.body = {
                "images": [{"image_url": data_url(picture.getvalue())}],
                "seed": 0,
                **prompt,
            }
        else:
            case.body = {"image": Binary(picture.getvalue()), "seed": 0, **prompt}
    # On the wire of a form a list of one text is that text, and a file's bytes are its string:
    # what breaks the schema here may be sound there. `refusals/uploads.py` holds what is not.
    _send(case, service, session)


def _send(case: Case, service: Service, session: requests.Session, *more: Any) -> None:
    # A field's bounds depend on the model, and a key's on its history: the document says less
    # than is asked. That keys are asked for is the next test.
    response = case.call_and_validate(
        base_url=service.address,
        session=session,
        headers=service.headers,
        additional_checks=[breaks_only_as_expected, *more],
        excluded_checks=[
            not_a_server_error,
            positive_data_acceptance,
            ignored_auth,
            negative_data_rejection,
        ],
    )
    sent[_name(case), response.status_code] += 1


@schema.include(path_regex="^/v1/").parametrize()
@settings(once, max_examples=WITHOUT_KEY)
def test_answers_nobody_without_a_key(
    case: Case, service: Service, session: requests.Session
) -> None:
    if _asks_well(case):
        case.path_parameters |= service.found_by(case)
    response = case.call_and_validate(
        base_url=service.address,
        session=session,
        excluded_checks=[not_a_server_error],
    )
    # A signature stands for a key, and a wrong one is a 403. What is no id is no picture: 404.
    no_picture = response.status_code == 404 and "image_id" in case.path_parameters
    assert response.status_code in (401, 403, 405) or no_picture
    unwelcome[_name(case)] += 1


def test_enough_was_sent_and_answered_in_every_way(
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    names = {operation["operationId"] for _, operation in operations(described())}
    if {name for name, _ in sent} != names or not unwelcome:
        pytest.skip("only this whole file sends as much")
    cases = sent.total() + unwelcome.total()
    record_testsuite_property("schemathesis cases", cases)
    assert cases >= LEAST_CASES
    assert set(sent) >= EXPECTED


def _name(case: Case) -> str:
    return str(case.operation.definition.raw["operationId"])


def _asks_well(case: Case) -> bool:
    return case.meta is None or case.meta.generation.mode is GenerationMode.POSITIVE
