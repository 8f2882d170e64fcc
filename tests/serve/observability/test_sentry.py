"""Which log lines become reports, what they hold, and that nothing is imported without a DSN."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from importlib.metadata import version

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from serve.environment import WrongSettings, read_settings
from serve.observability.logging import hide
from serve.supervise import Loop, LoopStuck, RoundDone, check
from tests.serve.observability.told import reported

PROMPT = "a violet cathedral"
KEY = "sfm_Zk3n0xR8vQ1tY5uW7aB9cD2eF4gH6iJ8kL0mN2oP4"
PASSWORD = "T1cketT1cketT1cket"


def test_a_report_has_the_ids_and_neither_secrets_nor_prompts() -> None:
    message = f"cannot draw {PROMPT!r} for {KEY} from postgresql://sfumato:{PASSWORD}@db/sfumato"
    with reported(process="diffusion", pool="small") as reports:
        ids = {"request_id": "abc", "job_id": "j1", "tenant_id": "t1"}
        with structlog.contextvars.bound_contextvars(**ids):
            hide(PROMPT)
            try:
                fail(message)
            except RuntimeError:
                structlog.get_logger("ours").exception("picture.failed", reason=PROMPT, prompt="x")
    (event,) = reports.events
    assert event["tags"] == {"process": "diffusion", "pool": "small", **ids}
    assert (event["level"], event["logger"]) == ("error", "ours")
    assert event["logentry"]["message"] == "picture.failed"
    assert (event["release"], event["environment"]) == (f"sfumato@{version('sfumato')}", "tests")
    (raised,) = event["exception"]["values"]
    assert raised["type"] == "RuntimeError"
    assert raised["value"].startswith("cannot draw '[redacted]' for sfm_[redacted]")
    frames = raised["stacktrace"]["frames"]
    assert frames[-1]["function"] == "fail"
    assert not any("vars" in frame for frame in frames)
    assert not {"request", "user", "modules"} & event.keys()
    assert event["breadcrumbs"]["values"] == []
    for hidden in (PROMPT, KEY, PASSWORD):
        assert hidden not in reports.sent


def test_expected_failures_are_not_reported() -> None:
    log, theirs = structlog.get_logger("ours"), logging.getLogger("theirs")
    with reported() as reports:
        log.error("api.database_unavailable", error="Postgres is away.")
        log.warning("picture.failed", error="The picture could not be stored.", exc_info=None)
        try:
            fail("once more")
        except RuntimeError:
            log.warning("tried", exc_info=True)
            theirs.warning("tried", exc_info=True)
        log.exception("nothing is being handled")
    assert reports.events == []


def test_an_error_that_is_logged_twice_is_reported_once() -> None:
    with reported() as reports:
        try:
            fail("as a server does with what an app has raised")
        except RuntimeError as error:
            structlog.get_logger("ours").error("api.unexpected", exc_info=error)
            logging.getLogger("theirs").exception("Exception in ASGI application")
    assert [event["logentry"]["message"] for event in reports.events] == ["api.unexpected"]


def test_a_library_s_error_has_the_ids_too() -> None:
    with reported() as reports, structlog.contextvars.bound_contextvars(job_id="j1"):
        try:
            fail("lost")
        except RuntimeError:
            logging.getLogger("asyncio").exception("Task exception was never %s", "retrieved")
    (event,) = reports.events
    assert event["tags"]["job_id"] == "j1"
    assert event["logentry"]["message"] == "Task exception was never retrieved"


def test_a_report_names_the_trace() -> None:
    tracer = TracerProvider().get_tracer("tests")
    with reported() as reports, tracer.start_as_current_span("picture") as span:
        structlog.get_logger("ours").error("failed", exc_info=RuntimeError("no"))
    (event,) = reports.events
    trace_id = trace.format_trace_id(span.get_span_context().trace_id)
    assert event["contexts"]["trace"]["trace_id"] == trace_id
    assert event["tags"]["trace_id"] == trace_id


async def test_a_dead_loop_is_reported_once() -> None:
    rounds = 0

    async def run(_round_done: RoundDone) -> None:
        nonlocal rounds
        rounds += 1
        raise KeyError("a row of tomorrow")

    with reported() as reports:
        loop = Loop("reaper", run)
        async with asyncio.timeout(10):
            while rounds < 3:
                await asyncio.sleep(0.01)
        await loop.stop()
    (event,) = reports.events
    assert event["tags"]["loop"] == "reaper"
    assert event["exception"]["values"][0]["type"] == "KeyError"


async def test_a_stuck_loop_is_reported_once() -> None:
    async def run(_round_done: RoundDone) -> None:
        await asyncio.sleep(60)

    with reported() as reports:
        loop = Loop("courier", run, stuck_after_s=0.01)
        await asyncio.sleep(0.05)
        for _ in range(3):
            with pytest.raises(LoopStuck):
                check([loop])
        await loop.stop()
    (event,) = reports.events
    assert (event["level"], event["logentry"]["message"]) == ("fatal", "loop.stuck")
    assert event["tags"] == {"loop": "courier"}


def test_without_a_dsn_nothing_is_imported() -> None:
    code = (
        "import sys; from serve.settings import Settings;"
        " import serve.app, serve.api.app, serve.cli.up;"
        " from serve.deployments.replica_log import open_replica_log;"
        " open_replica_log(Settings(), process='ingress');"
        " import logging; logging.getLogger().error('no', exc_info=ValueError());"
        " print('sentry_sdk' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "False"
    assert "ValueError" in done.stderr


def test_what_is_no_dsn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTRY_DSN", "https://sentry.example/1")
    with pytest.raises(WrongSettings, match=r"^SENTRY_DSN.*like `https://key@sentry.example/1`"):
        read_settings()
    monkeypatch.setenv("SENTRY_DSN", "https://0123abcd@o4.ingest.sentry.example/45")
    assert "0123abcd" not in repr(read_settings())


def fail(message: str) -> None:
    """Far from the constants: a report has the source lines around a frame's."""
    secret = message  # a variable of the frame
    raise RuntimeError(secret)
