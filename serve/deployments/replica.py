"""What Ray Serve calls the replica that runs in this process."""

from __future__ import annotations

from ray import serve


def replica_name() -> str:
    """Such as ``sfumato#Ingress#k3j8d2xq``: unique, and with the labels of Ray's metrics in it."""
    return serve.get_replica_context().replica_id.to_full_id_str()
