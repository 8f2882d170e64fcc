"""Liveness, readiness and metrics."""

from __future__ import annotations

from serve.api.examples.example import Example
from serve.api.health import NotReady
from serve.supervise import LoopStuck

_METRICS = """\
# HELP sfumato_jobs Jobs by state.
# TYPE sfumato_jobs gauge
sfumato_jobs{state="queued"} 2.0
sfumato_jobs{state="running"} 1.0
sfumato_jobs{state="succeeded"} 1841.0
# HELP sfumato_wait_seconds Predicted seconds until all that is queued has begun.
# TYPE sfumato_wait_seconds gauge
sfumato_wait_seconds 3.8
"""

TAGS = {"operation": "For whoever runs the service: load balancers, Kubernetes, Prometheus."}

EXAMPLES = {
    "health": Example(
        responses={
            200: {"status": "ok", "loops": {"event-bus": 0.4, "reaper": 1.6, "courier": 0.2}}
        },
        errors=(LoopStuck("No round has ended for too long in: courier (184 s)."),),
    ),
    "ready": Example(
        responses={200: {"status": "ready", "model": "sfumato-embedded", "workers": 1}},
        errors=(
            NotReady("No replica has made its first picture with 'sfumato-embedded' yet."),
            NotReady("The database does not answer."),
        ),
    ),
    "metrics": Example(responses={200: _METRICS}),
}
