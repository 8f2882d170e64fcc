"""The pieces of the training that can be checked without training."""

import random
import tomllib

import numpy as np
import torch
from PIL import Image

from pipelines.embedded.train import pictures, score, vocabulary
from pipelines.embedded.train.captions import Content, article, caption
from pipelines.embedded.train.concepts import COLOURS, concepts
from pipelines.embedded.train.denoiser import learning_rate, noise_scheduler
from pipelines.embedded.train.latents import variants


def test_no_two_concepts_share_a_word_or_an_icon() -> None:
    known = concepts()
    words = [word for concept in known for word in (concept.name, *concept.synonyms)]
    assert len(set(words)) == len(words)
    assert len({concept.icon for concept in known}) == len(known)


def test_captions_name_the_contents() -> None:
    chance = random.Random(0)
    cat = next(concept for concept in concepts() if concept.name == "cat")
    written = [caption(Content(cat, "blue", "red"), chance) for _ in range(500)]
    assert 20 <= written.count("") <= 90
    for words in filter(None, written):
        assert "blue" in words
        assert "red" in words
        assert any(name in words for name in (cat.name, *cat.synonyms))


def test_article() -> None:
    assert article("apple") == "an apple"
    assert article("unicorn") == "a unicorn"
    assert article("umbrella") == "an umbrella"
    assert article("red cherries") == "red cherries"


def test_variants_share_out_a_picture() -> None:
    for concept in (concepts()[0], concepts()[-1]):
        assert abs(sum(share for _, share in variants(concept)) - 1) < 1e-6


def test_recolour_makes_the_median_tone_the_colour() -> None:
    icon = torch.ones(1, 4, 8, 8)
    icon[:, :3] = torch.tensor([0.2, 0.7, 0.1]).view(1, 3, 1, 1)
    icon[:, :3, 0, 0] = 0
    red = torch.tensor(COLOURS["red"]) / 255
    dyed = pictures.recolour(icon, red[None])
    assert torch.allclose(dyed[0, :3, 4, 4], red, atol=1e-3)
    assert dyed[0, :3, 0, 0].max() == 0
    assert torch.equal(dyed[:, 3], icon[:, 3])


def test_compose_places_an_icon_over_its_background() -> None:
    icon = torch.zeros(1, 4, 128, 128)
    icon[:, [0, 3]] = 1
    blue = torch.tensor([[0.0, 0.0, 1.0]])
    drawn = pictures.compose(icon, blue, torch.tensor([0.5]), torch.zeros(1, 2))
    assert drawn.shape == (1, 3, 64, 64)
    assert torch.allclose(drawn[0, :, 32, 32], torch.tensor([1.0, -1.0, -1.0]), atol=1e-5)
    assert torch.allclose(drawn[0, :, 2, 2], torch.tensor([-1.0, -1.0, 1.0]), atol=1e-5)


def test_learning_rate_warms_up_and_falls() -> None:
    assert learning_rate(0, 0) < learning_rate(50, 0) < learning_rate(99, 0) == 1e-3
    assert learning_rate(1000, 0.8) > learning_rate(2000, 0.9) > learning_rate(3000, 1) > 0


def test_scheduler_predicts_velocity() -> None:
    config = noise_scheduler().config
    assert config.prediction_type == "v_prediction"
    assert config.timestep_spacing == "trailing"
    assert not config.clip_sample


def test_colour_of_a_picture() -> None:
    for name, rgb in COLOURS.items():
        pixels = np.full((64, 64, 3), 255, dtype=np.uint8)
        pixels[16:48, 16:48] = rgb
        assert score.colour(Image.fromarray(pixels)) == name
    assert score.colour(Image.new("RGB", (64, 64), "white")) is None


def test_the_artists_grammar_is_as_the_command_writes_it() -> None:
    """The file differs from another one in nothing but what was recognised."""
    described = tomllib.loads(vocabulary.PATH.read_text())
    found = {
        subject["text"]: vocabulary.Recognised(**subject["goes_with"])
        for subject in described["subject"]
    }
    assert vocabulary.grammar(concepts(), found) == vocabulary.PATH.read_text()
