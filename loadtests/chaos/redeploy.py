"""Deploys the application anew on a running service: ``python -m loadtests.chaos.redeploy GCS``.

A process of its own, because whoever joins a Ray cluster stays joined.
"""

from __future__ import annotations

import logging
import os
import sys


def main(address: str) -> None:
    """The settings are those of the environment, as they were for `sfumato up`."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray
    from ray import serve

    from serve.app import build_app

    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    serve.run(build_app({}), name="sfumato", route_prefix="/")


if __name__ == "__main__":
    main(sys.argv[1])
