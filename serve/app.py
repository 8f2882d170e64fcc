"""The application that Ray Serve runs: its deployments, bound."""

from __future__ import annotations

import os
from typing import Any

import ray
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.schema import LoggingConfig

from serve.deployments.autoscaling import BacklogPolicy
from serve.deployments.diffusion import Diffusion
from serve.deployments.ingress import Ingress
from serve.deployments.postprocess import Postprocess
from serve.environment import read_settings
from serve.settings import (
    DEFAULT_POOL,
    INGRESS_CPUS,
    POSTPROCESS_CPUS,
    Pool,
    Settings,
)

_SOCKETS = 10_000  # an open WebSocket counts as an ongoing request
_SHUTDOWN_LOOP_S = 0.5
# All of the ingress waits rather than works, so it needs no thread apart from Serve's own loop,
# between which each message of each socket would change over.
_ON_ONE_LOOP = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}


def build_app(args: dict[str, Any]) -> Application:
    """The import path of serve_config.yaml.

    ``args`` override settings by field name (``{"model": {"path": "…"}}``); everything else comes
    from the environment.

    Raises:
        WrongSettings: a setting is wrong; the message is what `sfumato up` says of it.
        ValueError: DATABASE_URL or REDIS_URL is missing.
    """
    return bind(read_settings(args))


def bind(settings: Settings) -> Application:
    """The deployments with their resources and their autoscaling: one `Diffusion` for each pool."""
    if not settings.database_url or not settings.redis_url:
        raise ValueError("Set DATABASE_URL and REDIS_URL, or use `sfumato up`, which starts both.")
    if "DATABASE_URL" not in os.environ:
        raise ValueError("Set DATABASE_URL in the environment of the cluster: Serve scales by it.")
    scaling, log = settings.scaling, replica_log(settings)
    postprocess = serve.deployment(
        ray_actor_options={"num_cpus": POSTPROCESS_CPUS},
        max_ongoing_requests=8,
        logging_config=log,
        graceful_shutdown_wait_loop_s=_SHUTDOWN_LOOP_S,
        autoscaling_config=AutoscalingConfig(
            min_replicas=scaling.postprocess_min,
            max_replicas=scaling.postprocess_max,
            target_ongoing_requests=4,
        ),
    )(Postprocess).bind(settings)
    diffusion = [
        diffusion_deployment(settings, name).bind(settings, name, postprocess)
        for name in settings.served_pools
    ]
    return serve.deployment(
        ray_actor_options={"num_cpus": INGRESS_CPUS, "runtime_env": {"env_vars": _ON_ONE_LOOP}},
        max_ongoing_requests=_SOCKETS,
        logging_config=log,
        health_check_period_s=1,  # the dead man's switch leans on it
        graceful_shutdown_wait_loop_s=_SHUTDOWN_LOOP_S,
        # Calls that wait for pictures are answered; sockets and streams end by the switch.
        graceful_shutdown_timeout_s=settings.longest_call_s,
        max_surge_percent=100,  # a replacement answers before the old one stops
        autoscaling_config=AutoscalingConfig(
            min_replicas=scaling.ingress_min,
            max_replicas=scaling.ingress_max,
            target_ongoing_requests=200,
        ),
    )(Ingress).bind(settings, *diffusion)


def replica_log(settings: Settings) -> LoggingConfig:
    """Of Serve's own lines, until the replica writes them as its own: requests are in ours."""
    encoding = "JSON" if settings.log_format == "json" else "TEXT"
    return LoggingConfig(encoding=encoding, enable_access_log=False)


def diffusion_name(pool: str) -> str:
    """What the deployment of a pool is called."""
    return "Diffusion" if pool == DEFAULT_POOL else f"Diffusion-{pool}"


def replica_gpus(settings: Settings, pool: Pool) -> float:
    """GPUs of one replica of the pool: where unset, one if Ray has any and a model may use it."""
    if pool.gpus is not None:
        return pool.gpus
    may_use = any(settings.served[name].device != "cpu" for name in pool.models)
    return 1.0 if may_use and _ray_gpus() else 0.0


def first_gpus(settings: Settings) -> tuple[float, float]:
    """The GPUs that the diffusion replicas of a start reserve, and those that Ray has."""
    pools = settings.served_pools.values()
    needed = sum(pool.at_first * replica_gpus(settings, pool) for pool in pools)
    return needed, _ray_gpus()


def diffusion_deployment(settings: Settings, name: str) -> serve.Deployment:
    scaling, pool = settings.scaling, settings.served_pools[name]
    return serve.deployment(
        name=diffusion_name(name),
        ray_actor_options={
            "num_cpus": pool.cpus,
            "num_gpus": replica_gpus(settings, pool),
            **({"accelerator_type": pool.accelerator} if pool.accelerator else {}),
        },
        logging_config=replica_log(settings),
        health_check_period_s=5,
        graceful_shutdown_wait_loop_s=_SHUTDOWN_LOOP_S,
        graceful_shutdown_timeout_s=settings.worker.drain_s + 10,
        autoscaling_config=AutoscalingConfig(
            min_replicas=pool.min,
            max_replicas=pool.max,
            initial_replicas=pool.at_first,
            upscale_delay_s=scaling.upscale_delay_s,
            downscale_delay_s=scaling.downscale_delay_s,
            policy=AutoscalingPolicy(  # type: ignore[no-untyped-call]
                policy_function=BacklogPolicy,
                policy_kwargs={
                    "pool": name,
                    "models": list(pool.models),
                    "target_wait_s": scaling.target_wait_s,
                    "database": settings.database.model_dump(),
                },
            ),
        ),
    )(Diffusion)


def _ray_gpus() -> float:
    if not ray.is_initialized():
        return 0.0
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("GPU", 0.0)
