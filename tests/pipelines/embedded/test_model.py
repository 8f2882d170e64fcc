"""The committed model, through plain diffusers: does it draw what it is asked for?"""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline

from pipelines.embedded import MODEL_PATH
from pipelines.embedded.train import classifier, contact_sheet, score
from pipelines.embedded.train.captions import article
from pipelines.embedded.train.concepts import COLOURS, concepts

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(MODEL_PATH, local_files_only=True)


def test_the_folder_is_small_safetensors_only() -> None:
    files = [path for path in MODEL_PATH.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40_000_000
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".ckpt", ".pkl")]
    assert len(list(MODEL_PATH.glob("*/*.safetensors"))) == 3


def test_concepts_json_lists_what_it_was_trained_on() -> None:
    listed = json.loads((MODEL_PATH / "concepts.json").read_text(encoding="utf-8"))
    assert list(listed["concepts"]) == [concept.name for concept in concepts()]
    assert listed["colours"] == list(COLOURS)
    assert len(listed["concepts"]) >= 100


def test_parts_agree_about_shapes(pipeline: StableDiffusionPipeline) -> None:
    assert pipeline.tokenizer.model_max_length == 16
    assert pipeline.text_encoder.config.max_position_embeddings == 16
    assert pipeline.unet.config.cross_attention_dim == pipeline.text_encoder.config.hidden_size
    assert pipeline.unet.config.sample_size * pipeline.vae_scale_factor == 64
    assert pipeline.dtype == torch.float32


def test_the_same_seed_draws_the_same_picture(pipeline: StableDiffusionPipeline) -> None:
    first, again = (contact_sheet.draw(pipeline, ["a red heart"], 4)[0] for _ in range(2))
    other = contact_sheet.draw(pipeline, ["a red heart"], 4, seed=1)[0]
    assert first.size == (64, 64)
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_it_draws_things(pipeline: StableDiffusionPipeline) -> None:
    known = concepts()
    asked = [concept.name for concept in known if not concept.shape][::6][:16]
    images = contact_sheet.draw(pipeline, [article(name) for name in asked], 16)
    found = score.named(classifier.restore(), images, known)
    hits = sum(name in best for name, best in zip(asked, found, strict=True))
    assert hits >= 12, [(name, best[0]) for name, best in zip(asked, found, strict=True)]


def test_it_draws_colours(pipeline: StableDiffusionPipeline) -> None:
    words = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "black"]
    images = contact_sheet.draw(pipeline, [f"a {word} heart" for word in words], 16)
    found = [score.colour(image) for image in images]
    assert sum(a == b for a, b in zip(found, words, strict=True)) >= 6, found
