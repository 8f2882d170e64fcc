"""Which metrics there are, and which labels an expression's series have."""

from __future__ import annotations

from typing import Any

import promql_parser as promql
import yaml

from loadtests.monitoring.dashboards import RULES
from serve.observability.meter import Histogram
from serve.observability.metrics import METRICS
from serve.observability.service_sample import SERVICE_METRICS

Labels = frozenset[str]
NONE: Labels = frozenset()
RAY = frozenset({"application", "deployment", "replica", "NodeAddress"})
"""Of the labels that Ray adds, those that an expression may use."""
FOREIGN = {
    "ray_node_cpu_utilization": {"ip"},
    "ray_node_disk_utilization_percentage": {"ip"},
    "ray_node_mem_total": {"ip"},
    "ray_node_mem_used": {"ip"},
    "kubelet_volume_stats_available_bytes": {"namespace", "persistentvolumeclaim"},
    "kubelet_volume_stats_capacity_bytes": {"namespace", "persistentvolumeclaim"},
}
"""Of Ray's nodes and of the kubelet."""


def known() -> dict[str, Labels]:
    """Every name that may stand in an expression, with its labels."""
    found = {name: frozenset(labels) for name, labels in FOREIGN.items()}
    found |= {metric.name: frozenset(metric.labels) for metric in SERVICE_METRICS}
    for metric in METRICS:
        labels = frozenset(metric.labels) | RAY
        if isinstance(metric, Histogram):
            found[f"ray_{metric.name}_bucket"] = labels | {"le"}
            found[f"ray_{metric.name}_count"] = labels
        else:
            found[f"ray_{metric.name}"] = labels
    for rule in rules("record"):
        found[rule["record"]] = labels_of(rule["expr"], found) | set(rule["labels"])
    return found


def rules(kind: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def labels_of(expression: str, names: dict[str, Labels]) -> Labels:
    """The labels of the expression's series.

    Raises:
        ValueError: it names a metric or a label that there is not, or joins what never matches.
    """
    return _labels(promql.parse(expression.replace("$__rate_interval", "5m")), names)


def _labels(node: Any, names: dict[str, Labels]) -> Labels:
    match node:
        case promql.NumberLiteral():
            return NONE
        case promql.MatrixSelector():
            return _labels(node.vector_selector, names)
        case promql.VectorSelector():
            if node.name not in names:
                raise ValueError(f"There is no metric {node.name}.")
            return _need(names[node.name], {each.name for each in node.matchers.matchers})
        case promql.Call():
            return _call(node.func.name, [_labels(each, names) for each in node.args])
        case promql.AggregateExpr():
            by = set() if node.modifier is None else set(node.modifier.labels)
            _need(_labels(node.expr, names), by)
            return frozenset(by)
        case promql.BinaryExpr():
            return _binary(node, _labels(node.lhs, names), _labels(node.rhs, names))
        case promql.ParenExpr():
            return _labels(node.expr, names)
    raise ValueError(f"{type(node).__name__} is not used so far.")


def _need(has: Labels, used: set[str]) -> Labels:
    if used - has:
        raise ValueError(f"There is no label {', '.join(sorted(used - has))}.")
    return has


def _call(function: str, arguments: list[Labels]) -> Labels:
    if function in ("absent", "vector"):
        return NONE
    labels = arguments[-1] if function == "histogram_quantile" else arguments[0]
    return _need(labels, {"le"}) - {"le"} if function == "histogram_quantile" else labels


def _binary(node: Any, left: Labels, right: Labels) -> Labels:
    operator = str(node.op)
    if operator == "or":
        return left | right
    if isinstance(node.lhs, promql.NumberLiteral):
        return right
    if not isinstance(node.rhs, promql.NumberLiteral):
        if node.modifier is not None and node.modifier.matching is not None:
            on = set(node.modifier.matching.labels)
            _need(left, on)
            _need(right, on)
        elif left != right:
            raise ValueError(f"{set(left)} {operator} {set(right)} matches nothing.")
    return left
