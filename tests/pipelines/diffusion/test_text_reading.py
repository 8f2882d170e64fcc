"""How much of a prompt a model reads: as its own tokenizers are asked to cut it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import (
    Output,
    PromptReading,
    Request,
    Result,
    SamplingParams,
    TextReading,
)
from pipelines.diffusion.text_reading import (
    TokenizedText,
    best_reading,
    readings_of_rows,
    recorded_texts,
)
from pipelines.embedded import MODEL_PATH
from tests.pipelines.diffusion.tiny import pixart_alpha, stable_diffusion_3

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

Params = Callable[..., SamplingParams]
Run = Callable[..., list[Output]]

LONG = " ".join(["red heart"] * 20)


def read(outputs: list[Output]) -> dict[str, PromptReading]:
    return {each.request_id: each.reading for each in outputs if isinstance(each, Result)}


def test_the_model_that_comes_along_reads_fourteen_tokens(params: Params, run: Run) -> None:
    """Sixteen with the two that its tokenizer adds; from the cache of prompts as well."""
    engine = DiffusionEngine(load_model(MODEL_PATH, device="cpu", dtype="float32"))
    common = {"num_inference_steps": 1}
    requests = [
        Request("long", params(prompt=LONG, **common)),
        Request("again", params(prompt=LONG, seed=2, **common)),
        Request("fits", params(prompt="heart " * 14, **common)),
        Request("one more", params(prompt="heart " * 15, **common)),
        Request("negative", params(prompt="heart", negative_prompt=LONG, **common)),
        Request(
            "unguided", params(prompt="heart", negative_prompt=LONG, guidance_scale=1, **common)
        ),
    ]

    told = read(run(engine, *requests))

    cut, nothing = TextReading(40, 14), TextReading(0, 0)
    assert told["long"] == told["again"] == PromptReading(cut, nothing)
    assert told["fits"].prompt == TextReading(14, 14)
    assert told["one more"].prompt == TextReading(15, 14)
    assert told["negative"] == PromptReading(TextReading(1, 1), cut)
    assert told["unguided"] == PromptReading(TextReading(1, 1), None), "it was not used"


def test_what_one_of_several_encoders_reads_whole_is_not_cut(
    tmp_path: Path, params: Params, run: Run
) -> None:
    """CLIP cuts at 77, T5 reads 256."""
    stable_diffusion_3.build_pipeline().save_pretrained(tmp_path)
    engine = DiffusionEngine(load_model(tmp_path, device="cpu", dtype="float32"))
    side = {"num_inference_steps": 1, "guidance_scale": 1.0}

    told = read(
        run(
            engine,
            Request("long", params(prompt="fox " * 60, **side)),
            Request("longer", params(prompt="fox " * 600, **side)),
        )
    )

    assert told["long"].prompt is not None
    assert not told["long"].prompt.cut
    assert told["longer"].prompt is not None
    assert told["longer"].prompt.cut
    assert told["longer"].prompt.read == 255, "and one that ends the sentence"


def test_each_row_of_a_whole_call_has_its_own(tmp_path: Path, params: Params, run: Run) -> None:
    pixart_alpha.build_pipeline().save_pretrained(tmp_path)
    model = load_model(tmp_path, device="cpu", dtype="float32")
    engine = DiffusionEngine(model)
    side = model.description.default_width
    common = {"width": side, "height": side, "num_inference_steps": 2}

    told = read(
        run(
            engine,
            Request("long", params(prompt="A Fox " * 200, negative_prompt="blue", **common)),
            Request("short", params(prompt="a fox", negative_prompt="bad " * 300, **common)),
        )
    )

    for name, which, other in (
        ("long", "prompt", "negative_prompt"),
        ("short", "negative_prompt", "prompt"),
    ):
        assert getattr(told[name], which).cut, name
        assert not getattr(told[name], other).cut, name


def test_listening_changes_nothing_that_a_tokenizer_says() -> None:
    from transformers import AutoTokenizer

    family = load_model(MODEL_PATH, device="cpu", dtype="float32")
    plain, heard_one = (
        AutoTokenizer.from_pretrained(MODEL_PATH / "tokenizer"),
        family.pipeline.tokenizer,
    )
    assert isinstance(heard_one, type(plain))
    assert type(heard_one).__name__ == type(plain).__name__
    for texts in (LONG, [LONG, "a"], [""]):
        for options in (
            {"padding": "max_length", "max_length": 16, "truncation": True},
            {"padding": "longest"},
            {"truncation": True, "max_length": 8, "add_special_tokens": False},
        ):
            with recorded_texts():
                assert dict(heard_one(texts, **options)) == dict(plain(texts, **options))


def test_texts_belong_to_the_longer_one_that_is_in_them() -> None:
    whole, cut = TextReading(2, 2), TextReading(9, 4)
    texts_read = [
        TokenizedText("<user> a red fox jumps <assistant>", cut),
        TokenizedText("a red", whole),
        TokenizedText("something else", whole),
    ]
    (told,) = readings_of_rows(texts_read, [("A red fox  jumps", "a red")])
    assert told == PromptReading(cut, whole)
    together = [TokenizedText("a fox and a fox", cut, 0, 2), TokenizedText("a fox", whole, 1, 2)]
    told_both = readings_of_rows(together, [("a fox and a fox", ""), ("a fox", "")])
    assert told_both == [PromptReading(cut), PromptReading(whole)]
    assert readings_of_rows(texts_read, [("", "")]) == [PromptReading()]
    assert readings_of_rows([TokenizedText("", whole)], [("a", "")]) == [PromptReading(None, whole)]


def test_of_several_readings_the_whole_one_counts_else_the_longest() -> None:
    def told(*readings: TextReading) -> TextReading | None:
        return best_reading([TokenizedText("", each) for each in readings])

    assert told() is None
    assert told(TextReading(90, 75), TextReading(70, 70)) == TextReading(70, 70)
    assert told(TextReading(90, 75), TextReading(300, 255)) == TextReading(300, 255)
