"""Who may connect to what: nothing that this table does not have."""

from __future__ import annotations

from tests.k8s.manifests import Json, Manifests, selects

Opening = tuple[str, str, int | str]
"""To which pods, from whom, on which port."""

RAY = ("head", "worker")
OPERATOR = "pods app.kubernetes.io/name=kuberay-operator"
POSTGRES_OPERATOR = "pods app.kubernetes.io/name=cloudnative-pg"
IN: set[Opening] = {
    *((to, who, "any") for to in RAY for who in RAY),
    ("head", OPERATOR, 8265),
    ("head", OPERATOR, 8000),
    ("worker", "namespaces sfumato/front-door=true", 8000),
    *((to, "namespaces sfumato/monitoring=true", port) for to in RAY for port in (8000, 8080)),
    *(("valkey", who, 6379) for who in RAY),
    *(("postgres", who, 5432) for who in (*RAY, "migrate", "postgres", POSTGRES_OPERATOR)),
    *(("postgres", who, 8000) for who in ("postgres", POSTGRES_OPERATOR)),
}
OUT: set[Opening] = {
    *((who, to, "any") for to in RAY for who in RAY),
    *((who, "anyone", port) for who in (*RAY, "migrate") for port in (443, 5432, 6379, 6443)),
    *((who, "anyone", 53) for who in (*RAY, "migrate", "valkey", "postgres")),
    *(("postgres", "postgres", port) for port in (5432, 8000)),
    *(("postgres", "anyone", port) for port in (443, 6443)),
}


def kinds(manifests: Manifests) -> dict[str, Json]:
    """Each kind of pod and its labels."""
    found = {
        str(pod.labels["app.kubernetes.io/component"]).removeprefix("ray-"): pod.labels
        for pod in manifests.pods()
    }
    for cluster in manifests.of("Cluster"):
        found["postgres"] = {"cnpg.io/cluster": cluster["metadata"]["name"]}
    return found


def peers(manifests: Manifests, peer: Json) -> list[str]:
    """Whom an entry of `from` or `to` means."""
    assert not peer.keys() - {"podSelector", "namespaceSelector"}, "no addresses"
    if "namespaceSelector" not in peer:
        found = kinds(manifests)
        return [kind for kind in found if selects(peer["podSelector"], found[kind])]
    what, selector = (
        ("pods", peer["podSelector"])
        if "podSelector" in peer
        else ("namespaces", peer["namespaceSelector"])
    )
    ((label, value),) = selector["matchLabels"].items()
    return [f"{what} {label}={value}"]


def openings(manifests: Manifests, direction: str, end: str) -> set[Opening]:
    found = set()
    for policy in manifests.of("NetworkPolicy"):
        spec = policy["spec"]
        assert spec["policyTypes"], policy["metadata"]["name"]
        chosen = [
            kind
            for kind, labels in kinds(manifests).items()
            if selects(spec["podSelector"], labels)
        ]
        assert chosen, policy["metadata"]["name"]
        for rule in spec.get(direction, []):
            ports = [port["port"] for port in rule.get("ports", [{"port": "any"}])]
            others = [who for peer in rule.get(end, []) for who in peers(manifests, peer)]
            found |= {
                (kind, other, port)
                for kind in chosen
                for other in (others if end in rule else ["anyone"])
                for port in ports
            }
    return found


def test_all_is_denied_at_first(manifests: Manifests) -> None:
    policy = manifests.named("NetworkPolicy", "default-deny")
    assert policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_who_may_connect(manifests: Manifests) -> None:
    assert openings(manifests, "ingress", "from") == IN


def test_where_pods_may_connect(manifests: Manifests) -> None:
    assert openings(manifests, "egress", "to") == OUT
