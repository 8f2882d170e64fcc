"""AUTOMATIC1111's text, which most tools of the field write and read.

The prompt, then the negative prompt behind its label, then a line of names and values:

    a red fox <lora:ink:0.7>
    Negative prompt: text, frame
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5.0, Seed: 7, Size: 512x512

stable-diffusion-webui, ``modules/infotext_utils.py``. A value with a comma, a colon or a line break
is a JSON string there.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from pipelines.imaging.metadata.origin import Origin

_NEGATIVE = "Negative prompt:"
_NAME = re.compile(r"\w[\w \-/]*")
_LEAST_PAIRS = 3
_LONGEST_LINE = 16_384
"""Of names and values; no tool writes so many."""
_LORA = re.compile(r"<lora:([^:<>]+):(-?\d+(?:\.\d+)?)(?::[^<>]*)?>")
_SAMPLERS = {
    "ddim": ("DDIM", None),
    "euler": ("Euler", None),
    "euler_ancestral": ("Euler a", None),
    "dpmpp_2m": ("DPM++ 2M", None),
    "dpmpp_2m_karras": ("DPM++ 2M", "Karras"),
    "unipc": ("UniPC", None),
    "lcm": ("LCM", None),
    "flow_match_euler": ("Euler", "Simple"),
}
_LANCZOS = "Lanczos"
_PLAIN_SCHEDULES = {None, "Automatic", "Uniform"}


def write_text(metadata: Mapping[str, Any]) -> str:
    """The text of a picture that was drawn with these parameters."""
    loras = [f"<lora:{each['name']}:{each['scale']:g}>" for each in metadata.get("loras", ())]
    lines = [" ".join([metadata.get("prompt", ""), *loras]).strip()]
    if metadata.get("negative_prompt"):
        lines.append(f"{_NEGATIVE} {metadata['negative_prompt']}")
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in _pairs(metadata)))
    return "\n".join(lines).lstrip("\n")


def _pairs(metadata: Mapping[str, Any]) -> list[tuple[str, object]]:
    sampler, schedule = _SAMPLERS.get(metadata.get("scheduler", ""), (None, None))
    hires = metadata.get("hires")
    scale = hires["scale"] if hires else 1
    size = None
    if "width" in metadata:  # that of the first pass
        size = f"{round(metadata['width'] / scale)}x{round(metadata['height'] / scale)}"
    clip_skip = metadata.get("clip_skip")
    pairs = {
        "Steps": metadata.get("num_inference_steps"),
        "Sampler": sampler,
        "Schedule type": schedule,
        "CFG scale": metadata.get("guidance_scale"),
        "Seed": metadata.get("seed"),
        "Size": size,
        "Model": metadata.get("model"),
        "Denoising strength": hires["strength"] if hires else metadata.get("strength"),
        "Hires upscale": f"{scale:g}" if hires else None,
        "Hires steps": _made_steps(hires) if hires else None,
        "Hires upscaler": _LANCZOS if hires else None,
        "Clip skip": clip_skip + 1 if clip_skip else None,  # they count the layer that is read
        "Version": metadata.get("software"),
    }
    return [(name, value) for name, value in pairs.items() if value is not None]


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:\n"]', text) else text


def read_text(text: str) -> Origin | None:
    """What the text tells; None if it has no such line of names and values."""
    *lines, last = text.strip().split("\n")
    told = _told(last)
    if "Steps" not in told or len(told) < _LEAST_PAIRS:
        return None
    prompts: dict[str, list[str]] = {"prompt": [], "negative_prompt": []}
    part = prompts["prompt"]
    for line in lines:
        words = line
        if line.startswith(_NEGATIVE):
            part = prompts["negative_prompt"]
            words = line.removeprefix(_NEGATIVE)
        part.append(words.strip())
    parameters: dict[str, Any] = {name: "\n".join(part) for name, part in prompts.items() if part}
    parameters |= _without_loras(parameters)
    parameters |= _numbers(told)
    parameters |= _hires(told, parameters)
    software = told.pop("Version", "")
    return Origin(_software(software), parameters, told)


def _software(version: str) -> str:
    if not version:
        return "AUTOMATIC1111"
    return f"AUTOMATIC1111 {version}" if version[:1].isdigit() or version[:2] == "v1" else version


def _told(line: str) -> dict[str, str]:
    """Its names and values."""
    told: dict[str, str] = {}
    at = 0
    while len(line) <= _LONGEST_LINE and (colon := line.find(":", at)) >= 0:
        name = line[at:colon].strip()
        value, at = _value(line, colon + 1)
        if _NAME.fullmatch(name):
            told[name] = value
    return told


def _value(line: str, at: int) -> tuple[str, int]:
    """The value that begins there, and where the next name begins."""
    while line.startswith(" ", at):
        at += 1
    value: str | None = None
    end = at
    if line.startswith('"', at):
        try:
            value, end = json.JSONDecoder().raw_decode(line, at)
        except ValueError:  # a plain value that begins with a quotation mark
            value = None
    comma = line.find(",", end)
    end = len(line) if comma < 0 else comma
    return (line[at:end].strip() if value is None else value), end + 1


def _without_loras(parameters: Mapping[str, Any]) -> dict[str, Any]:
    prompt = parameters.get("prompt", "")
    loras = [{"name": name, "scale": _finite(scale)} for name, scale in _LORA.findall(prompt)]
    if not loras:
        return {}
    return {"prompt": _LORA.sub("", prompt).strip(), "loras": loras}


def _numbers(told: dict[str, str]) -> dict[str, Any]:
    """Those that have a name of ours; they are taken out of ``told``."""
    found: dict[str, Any] = {}
    readers: dict[str, Callable[[str], dict[str, Any]]] = {
        "Steps": lambda text: {"num_inference_steps": int(text)},
        "CFG scale": lambda text: {"guidance_scale": _finite(text)},
        "Seed": lambda text: {"seed": int(text)},
        "Size": _size,
        "Model": lambda text: {"model": text},
        "Denoising strength": lambda text: {"strength": _finite(text)},
        "Clip skip": lambda text: {"clip_skip": int(text) - 1},
    }
    for name, read in readers.items():
        try:
            found |= read(told[name])
        except (KeyError, ValueError):  # it stays among the others
            continue
        del told[name]
    schedule = told.get("Schedule type")
    scheduler = _scheduler_of(told.get("Sampler", ""), schedule)
    if scheduler is not None:
        found["scheduler"] = scheduler
        told.pop("Sampler", None)
        told.pop("Schedule type", None)
    return found


def _hires(told: dict[str, str], found: dict[str, Any]) -> dict[str, Any]:
    """Two passes and the size of the second; other upscalers than ours stay among the others."""
    try:
        scale, steps = _finite(told["Hires upscale"]), int(told.get("Hires steps", "0"))
        width, height = (round(found[name] * scale) for name in ("width", "height"))
        strength = found.pop("strength")
    except (KeyError, ValueError, OverflowError):
        return {}
    for name in ("Hires upscale", "Hires steps"):
        told.pop(name, None)
    if told.get("Hires upscaler") == _LANCZOS:
        del told["Hires upscaler"]
    made = steps or found.get("num_inference_steps", 0)  # they write 0 for as many
    hires = {
        "scale": scale,
        "strength": strength,
        "num_inference_steps": math.ceil(made / strength) if strength > 0 else made,
    }
    return {"width": width, "height": height, "hires": hires}


def _made_steps(hires: Mapping[str, Any]) -> int:
    """Theirs are the steps that the second pass makes; ours are those of which it makes a share."""
    return int(hires["num_inference_steps"] * min(1.0, hires["strength"]))


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number


def _size(text: str) -> dict[str, Any]:
    width, height = map(int, text.split("x"))
    return {"width": width, "height": height}


def _scheduler_of(sampler: str, schedule: str | None) -> str | None:
    """Our name of a noise scheduler; None if we have none."""
    if schedule is None and sampler.endswith(" Karras"):  # before version 1.9
        sampler, schedule = sampler.removesuffix(" Karras"), "Karras"
    named = {each: name for name, each in _SAMPLERS.items()}
    plain = None if schedule in _PLAIN_SCHEDULES else schedule
    return named.get((sampler, plain))
