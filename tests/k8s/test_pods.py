"""What runs, with which rights, on which resources, and how it ends."""

from __future__ import annotations

import re
import tomllib

from serve.settings import Settings
from tests.k8s.manifests import ROOT, Json, Manifests, selects

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
UNITS = {"": 1.0, "m": 0.001, "Mi": 2.0**20, "Gi": 2.0**30}
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def quantity(text: str) -> float:
    found = re.fullmatch(r"([\d.]+)(|m|Mi|Gi)", str(text))
    assert found, text
    return float(found[1]) * UNITS[found[2]]


def test_images_have_tags_that_stay(manifests: Manifests) -> None:
    images = [each["image"] for _, each in manifests.containers() if "image" in each]
    images += [each["spec"]["imageName"] for each in manifests.of("Cluster")]
    for image in images:
        tag = image.rpartition("/")[2].partition(":")[2]
        assert re.match(r"\d+\.\d+", tag), image
        if image.startswith("ghcr.io/sfumato/"):
            assert tag == VERSION, image
    ours = {image.partition(":")[0] for image in images if "/sfumato/" in image}
    assert ours <= {"ghcr.io/sfumato/sfumato", "ghcr.io/sfumato/sfumato-gpu"}


def test_every_container_reserves_and_is_limited(manifests: Manifests) -> None:
    for name, container in manifests.containers():
        requests, limits = (container["resources"][key] for key in ("requests", "limits"))
        for resource in ("cpu", "memory"):
            assert 0 < quantity(requests[resource]) <= quantity(limits[resource]), name
        # Memory that is not reserved is taken back by killing.
        assert requests["memory"] == limits["memory"], name
        assert requests.get("nvidia.com/gpu") == limits.get("nvidia.com/gpu"), name


def test_gpus_are_asked_for_where_the_image_needs_them(manifests: Manifests, overlay: str) -> None:
    wants = {
        pod.name
        for pod in manifests.pods()
        for each in pod.containers
        if "nvidia.com/gpu" in each["resources"]["limits"]
    }
    has = {
        pod.name
        for pod in manifests.pods()
        for each in pod.containers
        if "/sfumato-gpu:" in each["image"]
    }
    expected = {"cpu-demo": set(), "single-gpu": {"gpu"}, "pools": {"l4", "h100"}}
    assert wants == has == expected[overlay]


def test_the_profile_is_restricted(manifests: Manifests) -> None:
    for pod in manifests.pods():
        context = pod.spec["securityContext"]
        assert context["runAsNonRoot"] is True, pod.name
        assert context["runAsUser"] >= 100, pod.name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, pod.name
        forbidden = {"hostNetwork", "hostPID", "hostIPC"}
        assert not forbidden & pod.spec.keys(), pod.name
        kinds = {kind for volume in pod.spec["volumes"] for kind in volume.keys() - {"name"}}
        assert kinds <= {"emptyDir", "configMap", "persistentVolumeClaim"}, pod.name
    for name, container in manifests.containers():
        context = container["securityContext"]
        assert {key: context.get(key) for key in RESTRICTED} == RESTRICTED, name
        assert not context.get("privileged"), name
        assert not any("hostPort" in port for port in container.get("ports", [])), name


def test_only_the_head_has_a_token_of_kubernetes(manifests: Manifests) -> None:
    """For the autoscaler. It and the links to Services are off elsewhere."""
    for pod in manifests.pods():
        assert pod.spec["enableServiceLinks"] is False, "SFUMATO_… of a Service is no setting"
        assert pod.spec.get("automountServiceAccountToken", True) is (pod.name == "head"), pod.name


def test_what_must_be_written_is_mounted(manifests: Manifests) -> None:
    for pod in manifests.pods():
        volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
        claims = {"data"} if pod.name == "sfumato-valkey" else set()
        for container in pod.containers:
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert set(mounts.values()) <= volumes.keys() | claims, pod.name
            assert "emptyDir" in volumes[mounts["/tmp"]], pod.name
            if pod.is_ray:
                # KubeRay knows both by these names, and gives them to the autoscaler.
                assert (mounts["/tmp/ray"], mounts["/dev/shm"]) == ("ray-logs", "shared-mem")
                assert mounts[str(Settings(**data_dir(manifests)).data_dir)] == "data"
    autoscaler = manifests.cluster["autoscalerOptions"]["volumeMounts"]
    assert autoscaler == [{"name": "tmp", "mountPath": "/tmp"}]


def data_dir(manifests: Manifests) -> Json:
    return {"data_dir": manifests.settings["data_dir"]}


def test_the_object_store_is_in_memory_that_is_counted(manifests: Manifests) -> None:
    for pod, start in manifests.ray_groups():
        (shared,) = (each for each in pod.spec["volumes"] if each["name"] == "shared-mem")
        limit = pod.containers[0]["resources"]["limits"]["memory"]
        assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": limit}, pod.name
        assert int(start["object-store-memory"]) <= quantity(limit) / 4, pod.name


def test_a_pod_stays_until_its_replicas_have_left(manifests: Manifests) -> None:
    worker = Settings(worker=manifests.settings.get("worker", {})).worker
    drain_s = float(manifests.environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    assert drain_s > 2 * (worker.drain_s + 10), "as long as Serve waits for a diffusion replica"
    for pod, _ in manifests.ray_groups():
        assert pod.spec["terminationGracePeriodSeconds"] >= drain_s + 10, pod.name


def test_a_budget_keeps_a_pod_and_lets_a_node_be_drained(
    manifests: Manifests, overlay: str
) -> None:
    budgets = manifests.of("PodDisruptionBudget")
    for budget in budgets:
        spec = budget["spec"]
        (pod,) = (each for each in manifests.pods() if selects(spec["selector"], each.labels))
        assert pod.least is not None
        assert 0 < spec["minAvailable"] < pod.least, budget["metadata"]["name"]
    expected = {"cpu-demo": 0, "single-gpu": 0, "pools": 2}
    assert len(budgets) == expected[overlay]


def test_the_head_takes_no_work(manifests: Manifests) -> None:
    assert manifests.cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert manifests.ray_service["spec"]["excludeHeadPodFromServeSvc"] is True
