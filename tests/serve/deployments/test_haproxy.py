"""What becomes of the configuration that Serve writes for HAProxy."""

from __future__ import annotations

import pytest

from serve.deployments.haproxy import guarded, on_one_machine

WRITTEN = """\
global
    log 127.0.0.1:514 local0 info
frontend prometheus
    bind :9101
frontend http_frontend
    bind 127.0.0.1:8000
backend http-sfumato
    log global
    http-reuse always
    server replica-1 192.0.2.2:30000 check observe layer4 error-limit 3 on-error mark-down
    server proxy 192.0.2.2:8500 check backup
listen stats
  bind *:8404
"""


def test_a_service_on_loopback_opens_nothing_to_others() -> None:
    lines = on_one_machine(WRITTEN, frozenset({"9101", "8404"}), "127.0.0.1").splitlines()
    assert [line.strip() for line in lines] == [
        "global",
        "log 127.0.0.1:514 local0 info",
        "frontend prometheus",
        "bind 127.0.0.1:9101",
        "frontend http_frontend",
        "bind 127.0.0.1:8000",
        "backend http-sfumato",
        "log global",
        "http-reuse always",
        "server replica-1 127.0.0.1:30000 check observe layer4 error-limit 3 on-error mark-down",
        "server proxy 127.0.0.1:8500 check backup",
        "listen stats",
        "bind 127.0.0.1:8404",
    ]


def test_the_port_of_the_service_stays_as_open_as_was_asked() -> None:
    asked = "    bind *:8000\n    bind :8001\n"
    assert on_one_machine(asked, frozenset({"9101", "8404"}), "127.0.0.1") == asked


def test_every_address_of_ipv6_is_asked_for_as_such() -> None:
    asked = "    bind *:8000\n    bind ::1:8001\n    bind *:8404\n"
    assert on_one_machine(asked, frozenset({"8404"}), "::1").splitlines() == [
        "    bind :::8000 v4v6",
        "    bind ::1:8001",
        "    bind 127.0.0.1:8404",
    ]


def test_replicas_are_looked_for_where_they_listen() -> None:
    lines = on_one_machine(WRITTEN, frozenset(), "127.0.0.2").splitlines()
    servers = [line.split()[2] for line in lines if line.strip().startswith("server")]
    assert servers == ["127.0.0.2:30000", "127.0.0.2:8500"]


def test_no_clients_bytes_reach_another_nor_a_log() -> None:
    assert guarded(WRITTEN).splitlines() == [
        "global",
        "frontend prometheus",
        "    bind :9101",
        "frontend http_frontend",
        "    bind 127.0.0.1:8000 proto h1",
        "backend http-sfumato",
        "    log global",
        "    http-reuse never",
        *WRITTEN.splitlines()[9:],
    ]


def test_a_configuration_that_cannot_be_guarded_is_refused() -> None:
    with pytest.raises(RuntimeError, match="another configuration"):
        guarded(WRITTEN.replace("http_frontend", "front"))
