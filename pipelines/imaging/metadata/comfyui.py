"""ComfyUI's graph, which its PNG files have as JSON in a text chunk ``prompt``.

A node has a class and inputs; an input that is a list of two, ``["4", 0]``, is the output of
another node. What drew the picture is found from its sampler upwards.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from pipelines.imaging.metadata.origin import Origin

_SOFTWARE = "ComfyUI"
_MOST_NODES = 5_000
_SCHEDULERS = {
    ("ddim", None): "ddim",
    ("euler", None): "euler",
    ("euler_ancestral", None): "euler_ancestral",
    ("dpmpp_2m", None): "dpmpp_2m",
    ("dpmpp_2m", "karras"): "dpmpp_2m_karras",
    ("uni_pc", None): "unipc",
    ("lcm", None): "lcm",
}
_PLAIN_SCHEDULES = {None, "normal", "simple", "sgm_uniform", "ddim_uniform"}
_NUMBERS = {
    "num_inference_steps": ("steps",),
    "guidance_scale": ("cfg", "guidance"),
    "seed": ("seed", "noise_seed"),
    "strength": ("denoise",),
}
"""The inputs that hold each of our parameters; the nearest node that has one counts."""
_MODELS = ("ckpt_name", "unet_name")

Node = Mapping[str, Any]


def read_graph(text: str) -> Origin | None:
    """What the graph tells of the picture; None if it is none, or has no sampler."""
    graph = _graph(text)
    sampler = _sampler(graph)
    if sampler is None:
        return None
    inputs = list(_upstream(graph, sampler))
    parameters: dict[str, Any] = {
        name: number
        for name, keys in _NUMBERS.items()
        if (number := _first_number(inputs, keys)) is not None
    }
    if parameters.get("strength") == 1:  # drawn from noise alone
        del parameters["strength"]
    parameters |= _size(graph, sampler)
    for name, link in (("prompt", "positive"), ("negative_prompt", "negative")):
        words = _text(graph, _linked(graph, sampler, link))
        if words:
            parameters[name] = words
    model = _first_text(inputs, _MODELS)
    if model is not None:
        parameters["model"] = _stem(model)
    loras = list(_loras(inputs))
    if loras:
        parameters["loras"] = loras
    return Origin(_SOFTWARE, parameters, _scheduler(inputs, parameters))


def _size(graph: Mapping[str, Node], sampler: Node) -> dict[str, float]:
    """In pixels, of the noise; text encoders have sizes of their own."""
    latent = _source(graph, sampler["inputs"]["latent_image"])
    above = [] if latent is None else list(_upstream(graph, latent))
    sides = {name: _first_number(above, (name,)) for name in ("width", "height")}
    return {name: side for name, side in sides.items() if side is not None}


def _graph(text: str) -> dict[str, Node]:
    try:
        nodes = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(nodes, dict) or len(nodes) > _MOST_NODES:
        return {}
    return {
        name: node
        for name, node in nodes.items()
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
    }


def _sampler(graph: Mapping[str, Node]) -> Node | None:
    """The one that begins with noise alone, else any: a second pass only refines its picture."""
    samplers = [
        node
        for node in graph.values()
        if "latent_image" in node["inputs"]
        and node["inputs"].keys() & {"seed", "noise_seed", "noise"}
    ]
    whole = [node for node in samplers if node["inputs"].get("denoise", 1) == 1]
    return next(iter(whole or samplers), None)


def _upstream(graph: Mapping[str, Node], node: Node) -> Iterator[Mapping[str, Any]]:
    """The inputs of the node, then of those that feed it, the nearest first, each once."""
    waiting, seen = [node], {id(node)}
    for each in waiting:
        yield each["inputs"]
        for link in each["inputs"].values():
            source = _source(graph, link)
            if source is not None and id(source) not in seen:
                seen.add(id(source))
                waiting.append(source)


def _source(graph: Mapping[str, Node], link: object) -> Node | None:
    if isinstance(link, list) and len(link) == 2 and isinstance(link[0], str):
        return graph.get(link[0])
    return None


def _linked(graph: Mapping[str, Node], sampler: Node, name: str) -> Node | None:
    """What feeds the sampler by that name, or its guider, which may have one conditioning alone."""
    guider = _source(graph, sampler["inputs"].get("guider")) or sampler
    found = _source(graph, guider["inputs"].get(name))
    if found is None and name == "positive":
        found = _source(graph, guider["inputs"].get("conditioning"))
    return found


def _text(graph: Mapping[str, Node], node: Node | None) -> str | None:
    """The words that come to the node: its own, or those of the nearest node above."""
    if node is None:
        return None
    return _first_text(list(_upstream(graph, node)), ("text", "text_g", "t5xxl", "value", "string"))


def _first_number(inputs: list[Mapping[str, Any]], keys: tuple[str, ...]) -> float | None:
    for each in inputs:
        for key in keys:
            value = each.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return value if math.isfinite(value) else None
    return None


def _first_text(inputs: list[Mapping[str, Any]], keys: tuple[str, ...]) -> str | None:
    return next(
        (each[key] for each in inputs for key in keys if isinstance(each.get(key), str)), None
    )


def _loras(inputs: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in inputs:
        name, scale = each.get("lora_name"), each.get("strength_model", 1.0)
        if isinstance(name, str) and isinstance(scale, int | float):
            yield {"name": _stem(name), "scale": scale}


def _scheduler(inputs: list[Mapping[str, Any]], parameters: dict[str, Any]) -> dict[str, str]:
    """Adds ours to ``parameters``, or answers their names of one that we do not have."""
    sampler = _first_text(inputs, ("sampler_name",))
    schedule = _first_text(inputs, ("scheduler",))
    plain = None if schedule in _PLAIN_SCHEDULES else schedule
    ours = _SCHEDULERS.get((sampler or "", plain))
    if ours is not None:
        parameters["scheduler"] = ours
        return {}
    named = {"sampler_name": sampler, "scheduler": schedule}
    return {name: value for name, value in named.items() if value is not None}


def _stem(file: str) -> str:
    return PurePosixPath(file.replace("\\", "/")).stem
