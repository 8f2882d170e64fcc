"""What a registry shows, by name and labels."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from serve.observability.registry import Registry


def recorded(registry: Registry, name: str, **labels: str) -> float:
    """The sum of the samples of that name that have these labels."""
    text = registry.render("")[0].decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
