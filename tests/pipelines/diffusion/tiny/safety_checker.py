"""diffusers' safety checker with random weights, and what it is made to refuse."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.pipelines.deepfloyd_if.safety_checker import IFSafetyChecker
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPImageProcessor

_SIDE = 32  # pixels that it looks at
_EVERYTHING, _NOTHING = -2.0, 2.0  # thresholds of a cosine


def build_parts() -> dict[str, Any]:
    """What a pipeline takes beside its other parts; refuses nothing."""
    torch.manual_seed(11)
    checker = StableDiffusionSafetyChecker(_config()).eval()
    checker.concept_embeds_weights.data.fill_(_NOTHING)
    checker.special_care_embeds_weights.data.fill_(_NOTHING)
    crop = {"height": _SIDE, "width": _SIDE}
    extractor = CLIPImageProcessor(size={"shortest_edge": _SIDE}, crop_size=crop)
    return {"safety_checker": checker, "feature_extractor": extractor}


def refuse_everything(parts: dict[str, Any]) -> None:
    parts["safety_checker"].concept_embeds_weights.data.fill_(_EVERYTHING)


def refuse_what_is_nearer_to(bad: Tensor, good: Tensor, parts: dict[str, Any]) -> None:
    """Both are pictures of (1, 3, height, width) from 0 to 1: one concept, half-way between."""
    checker = parts["safety_checker"]
    concept = _embedding(bad, parts) - _embedding(good, parts)
    checker.concept_embeds.data[0] = concept[0]
    checker.concept_embeds_weights.data[0] = 0.0


def build_if_parts() -> dict[str, Any]:
    """DeepFloyd IF's; refuses nothing."""
    torch.manual_seed(11)
    checker = IFSafetyChecker(_config()).eval()
    for head in (checker.p_head, checker.w_head):
        head.weight.data.zero_()
        head.bias.data.zero_()
    return build_parts() | {"safety_checker": checker}


def if_finds_as_unsafe(bad: Tensor, good: Tensor, parts: dict[str, Any]) -> None:
    _tell_apart(parts["safety_checker"].p_head, bad, good, parts)


def if_finds_as_watermarked(bad: Tensor, good: Tensor, parts: dict[str, Any]) -> None:
    _tell_apart(parts["safety_checker"].w_head, bad, good, parts)


def _tell_apart(head: Any, bad: Tensor, good: Tensor, parts: dict[str, Any]) -> None:
    """1 for ``bad`` and 0 for ``good``, where above 0.5 is refused."""
    with torch.no_grad():
        of_bad, of_good = (
            parts["safety_checker"].vision_model(_seen(each, parts))[0] for each in (bad, good)
        )
    direction = (of_bad - of_good) / (of_bad - of_good).square().sum()
    head.weight.data.copy_(direction)
    head.bias.data.copy_(-(of_good * direction).sum())


def _seen(picture: Tensor, parts: dict[str, Any]) -> Tensor:
    pixels = picture[0].permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()
    seen: Tensor = parts["feature_extractor"](pixels, return_tensors="pt").pixel_values
    return seen


def _embedding(picture: Tensor, parts: dict[str, Any]) -> Tensor:
    checker = parts["safety_checker"]
    with torch.no_grad():
        embedded: Tensor = checker.visual_projection(checker.vision_model(_seen(picture, parts))[1])
    return functional.normalize(embedded)


def _config() -> CLIPConfig:
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return CLIPConfig(
        text_config={"hidden_size": 16, "vocab_size": 8, "bos_token_id": 0, "eos_token_id": 1}
        | layers,
        vision_config={"hidden_size": 16, "image_size": _SIDE, "patch_size": 8, "projection_dim": 8}
        | layers,
        projection_dim=8,
    )
