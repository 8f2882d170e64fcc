"""The trained parts as a folder that plain diffusers loads."""

import json
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from pipelines.embedded import MODEL_PATH

from . import autoencoder, denoiser, text
from .concepts import COLOURS, concepts


def assemble(path: Path = denoiser.PATH) -> StableDiffusionPipeline:
    """The pipeline with the averaged weights of a checkpoint, in single precision."""
    tokens: CLIPTokenizer = text.tokenizer()
    model = denoiser.Denoiser(tokens)
    model.load_state_dict(torch.load(path, weights_only=True)["average"])
    model.eval()
    return StableDiffusionPipeline(
        vae=autoencoder.restore(),
        text_encoder=model.text_encoder,
        tokenizer=tokens,
        unet=model.unet,
        scheduler=denoiser.noise_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export(folder: Path = MODEL_PATH) -> None:
    """Writes the half-precision safetensors folder and the list of concepts."""
    assemble().to(torch.float16).save_pretrained(folder, safe_serialization=True)
    # Without a dtype asked for, diffusers loads its own parts in single precision, but
    # transformers goes by this entry: the two would not fit together.
    settings = folder / "text_encoder" / "config.json"
    config = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(
        json.dumps(config | {"dtype": "float32"}, indent=2) + "\n", encoding="utf-8"
    )
    for weights in folder.glob("*/*.safetensors"):
        weights.chmod(0o644)
    known = {
        "concepts": {concept.name: list(concept.synonyms) for concept in concepts()},
        "shapes": [concept.name for concept in concepts() if concept.shape],
        "colours": list(COLOURS),
    }
    (folder / "concepts.json").write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
