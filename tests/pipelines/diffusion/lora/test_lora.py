"""LoRAs of Stable Diffusion: file formats, text encoders, batches of any mix, and refusals."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.errors import (
    LoraLayoutError,
    LoraLoadError,
    PickledWeightsError,
    RequestError,
)
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.lora import bank as lora_bank
from pipelines.diffusion.lora.bank import LoraBank
from pipelines.diffusion.request import Failure, LoraScale, Output, Request, SamplingParams
from tests.pipelines.diffusion.conftest import load_plain
from tests.pipelines.diffusion.lora.lora_files import (
    Matrices,
    attention,
    matrices,
    save_kohya,
    save_old_diffusers,
    save_peft,
)
from tests.pipelines.diffusion.lora.lora_pictures import (
    assert_different,
    assert_same,
    draw,
    loras,
    reference,
)
from tests.pipelines.diffusion.tiny import flux
from tests.pipelines.diffusion.tiny.stable_diffusion import build_pipeline

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

Params = Callable[..., SamplingParams]
Run = Callable[..., list[Output]]


def unet_only(name: str) -> bool:
    return name.startswith("unet.")


def text_only(name: str) -> bool:
    return name.startswith("text_encoder.")


def convolutions(name: str) -> bool:
    """3x3 and strided ones; the tiny UNet's projections are 1x1 convolutions."""
    return any(mark in name for mark in ("conv", "proj_in", "proj_out")) and unet_only(name)


def kohyas(name: str) -> bool:
    """What kohya's trainers reach: no embeddings."""
    return "embedding" not in name


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return build_pipeline()


@pytest.fixture(scope="module")
def files(
    pipeline: StableDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder: Path = tmp_path_factory.mktemp("loras")

    def path(name: str) -> Path:
        return folder / f"{name}.safetensors"

    def pairs(seed: int, take: Callable[[str], bool], rank: int = 4) -> Matrices:
        return matrices(pipeline, seed, rank, take)

    return {
        "a": save_peft(path("a"), pairs(1, unet_only)),
        "b": save_peft(path("b"), pairs(2, lambda _: True)),
        "c": save_peft(path("c"), pairs(3, attention, rank=6)),
        "text": save_peft(path("text"), pairs(4, text_only)),
        "convolutions": save_peft(path("convolutions"), pairs(5, convolutions)),
        "old": save_old_diffusers(path("old"), pairs(6, attention)),
        "kohya": save_kohya(path("kohya"), pairs(7, kohyas), lambda _: 2.0),
        "locon": save_kohya(
            path("locon"),
            pairs(8, lambda name: kohyas(name) and unet_only(name)),
            lambda name: 1.0 if convolutions(name) else 3.0,
        ),
        "configured": _save_configured(path("configured")),
    }


def _save_configured(path: Path) -> Path:
    """By diffusers, with PEFT's configuration in the file: alphas by layer."""
    torch.manual_seed(0)
    unet = build_pipeline().unet
    config = LoraConfig(
        r=4,
        lora_alpha=2,
        target_modules=["to_q", "to_v", "conv1"],
        rank_pattern={"conv1": 2},
        alpha_pattern={"attn1.to_q": 8},
        init_lora_weights=False,
    )
    unet.add_adapter(config)
    StableDiffusionPipeline.save_lora_weights(
        path.parent,
        unet_lora_layers=get_peft_model_state_dict(unet),
        weight_name=path.name,
        unet_lora_adapter_metadata=config.to_dict(),  # type: ignore[no-untyped-call]
    )
    return path


@pytest.fixture(scope="module")
def loaded(model_folder: Path, files: dict[str, Path]) -> StableDiffusion:
    family = load_model(model_folder, "cpu", "float32", loras=files)
    assert isinstance(family, StableDiffusion)
    return family


@pytest.fixture
def bank(model_folder: Path) -> LoraBank:
    """Of a model of its own."""
    return load_plain(model_folder).loras


@pytest.mark.parametrize(
    "asked",
    [
        *(loras(b=scale) for scale in (1.0, 0.5, -1.0)),
        loras(b=0.5, c=-1.0),
        loras(a=0.0, c=1.0),
        *(
            loras(**{name: 0.8})
            for name in ("text", "convolutions", "old", "kohya", "locon", "configured")
        ),
    ],
    ids=lambda asked: "+".join(f"{each.name}*{each.scale}" for each in asked),
)
def test_same_as_diffusers(
    loaded: StableDiffusion, files: dict[str, Path], params: Params, asked: tuple[LoraScale, ...]
) -> None:
    wanted = params(loras=asked, num_inference_steps=2)
    (ours,) = draw(loaded, wanted)
    assert_same(ours, reference(build_pipeline(), files, wanted))
    assert_different(ours, draw(loaded, replace(wanted, loras=()))[0])


def test_alphas_of_any_layer_count(
    pipeline: StableDiffusionPipeline, bank: LoraBank, tmp_path: Path
) -> None:
    """diffusers 0.42 forgets kohya's alphas of attention layers where not all are the same."""
    pairs = matrices(pipeline, 1, take=lambda name: kohyas(name) and unet_only(name))
    bank.load("kohya", save_kohya(tmp_path / "k.safetensors", pairs, lambda n: 1.0 + len(n) % 3))
    baked = {name: (down, up * (1.0 + len(name) % 3) / 4) for name, (down, up) in pairs.items()}
    bank.load("baked", save_peft(tmp_path / "b.safetensors", baked))
    ours, theirs = (bank.adapter(name).pairs for name in ("kohya", "baked"))
    assert ours.keys() == theirs.keys()
    for target, pair in ours.items():
        torch.testing.assert_close(pair.up, theirs[target].up)
        torch.testing.assert_close(pair.down, theirs[target].down)


def test_rank_stabilised_alphas(bank: LoraBank, tmp_path: Path) -> None:
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    state = {f"unet.{name}.lora_A.weight": torch.ones(4, 16)}
    state[f"unet.{name}.lora_B.weight"] = torch.ones(16, 4)
    metadata = '{"unet.lora_alpha": 6, "unet.r": 4, "unet.use_rslora": true}'
    save_file(state, tmp_path / "r.safetensors", {"lora_adapter_metadata": metadata})
    bank.load("r", tmp_path / "r.safetensors")
    (pair,) = bank.adapter("r").pairs.values()
    torch.testing.assert_close(pair.up, torch.full((16, 4), 6 / math.sqrt(4)))


@settings(
    max_examples=3,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_any_mix_draws_as_if_alone(
    loaded: StableDiffusion, params: Params, data: st.DataObject
) -> None:
    scales = st.dictionaries(
        st.sampled_from(list(loaded.loras.names)),
        st.sampled_from([1.0, 0.5, -1.0, 0.3, 0.0]),
        max_size=3,
    )
    asked = [
        params(
            loras=loras(**data.draw(scales)),
            seed=i,
            prompt=data.draw(st.sampled_from(["a red fox", "a blue cat"])),
            guidance_scale=data.draw(st.sampled_from([0.0, 5.0])),
            num_inference_steps=data.draw(st.integers(1, 2)),
        )
        for i in range(8)
    ]
    for each, ours in zip(asked, draw(loaded, *asked), strict=True):
        assert_same(ours, draw(loaded, each)[0])


def test_one_that_leaves_or_fails_leaves_the_others_exact(
    loaded: StableDiffusion, params: Params, files: dict[str, Path], run: Run
) -> None:
    loaded.loras.load("leaving", files["c"])
    choices = [loras(a=1.0), loras(leaving=0.5), (), loras(b=-0.5, c=0.5), loras(a=0.5)]
    asked = [params(loras=choice, seed=i) for i, choice in enumerate(choices)]
    finished: list[torch.Tensor] = []
    engine = DiffusionEngine(loaded)
    for i, each in enumerate(asked):
        engine.add(Request(str(i), each))
    decode = loaded.decode

    def keep(latents: torch.Tensor) -> torch.Tensor:
        finished.append(latents)
        return decode(latents)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaded, "decode", keep)
        engine.step()
        engine.abort("0")
        loaded.loras.unload("leaving")
        outputs = run(engine)
    failures = [output for output in outputs if isinstance(output, Failure)]
    assert [failure.request_id for failure in failures] == ["1"]
    assert "There is no LoRA 'leaving'" in failures[0].reason
    for latents, each in zip(finished, asked[2:], strict=True):
        expected = draw(loaded, each)[0][0]
        torch.testing.assert_close(latents, expected, atol=1e-4, rtol=1e-4)


def test_prompts_are_cached_by_what_changes_their_embedding(
    loaded: StableDiffusion, params: Params
) -> None:
    plain, unet, text, weaker = (
        loaded.encode(params(loras=asked)).positive
        for asked in ((), loras(a=1.0), loras(text=1.0), loras(text=0.5))
    )
    assert unet is plain
    assert loaded.encode(params(loras=loras(text=1.0, a=0.2))).positive is text
    assert (text.tokens - plain.tokens).abs().max() > 1e-2
    assert (text.tokens - weaker.tokens).abs().max() > 1e-2


def test_a_name_can_pass_to_another(
    model_folder: Path, params: Params, files: dict[str, Path]
) -> None:
    """While a batch of the same names goes on."""
    family = load_plain(model_folder)
    short = partial(params, num_inference_steps=2)
    asked = short(loras=loras(x=1.0)), short(), short(loras=loras(x=0.5, y=1.0))
    plain = draw(family, params())[0]
    family.loras.load("y", files["c"])
    for name in ("text", "a"):
        family.loras.load("x", files[name])
        for each, ours in zip(asked, draw(family, *asked), strict=True):
            theirs = {"x": files[name], "y": files["c"]}
            assert_same(ours, reference(build_pipeline(), theirs, each))
        family.loras.unload("x")
    family.loras.unload("y")
    assert (family.loras.names, family.loras.nbytes) == ((), 0)
    assert not any(layer._forward_hooks for layer in family.pipeline.unet.modules())
    assert_same(draw(family, params())[0], plain)


def test_bytes_are_the_matrices(bank: LoraBank, files: dict[str, Path]) -> None:
    for name in ("a", "c"):
        bank.load(name, files[name])
        held = sum(tensor.nbytes for tensor in load_file(files[name]).values())
        assert bank.adapter(name).nbytes == held
    assert bank.nbytes == sum(bank.adapter(name).nbytes for name in bank.names)


def test_dtype_follows_the_layer(model_folder: Path, files: dict[str, Path]) -> None:
    bank = load_plain(model_folder, torch.bfloat16).loras
    bank.load("a", files["a"])
    dtypes = {pair.up.dtype for pair in bank.adapter("a").pairs.values()}
    assert dtypes == {torch.bfloat16}


def test_passes_without_loras_run_no_hooks(loaded: StableDiffusion, params: Params) -> None:
    draw(loaded, params(loras=loras(b=1.0), num_inference_steps=1))
    draw(loaded, params(num_inference_steps=1))
    assert not any(layer._forward_hooks for layer in loaded.pipeline.unet.modules())


def test_channels_last(model_folder: Path, files: dict[str, Path], params: Params) -> None:
    family = load_plain(model_folder)
    family.denoiser.to(memory_format=torch.channels_last)
    for name in ("convolutions", "a"):
        family.loras.load(name, files[name])
    asked = [params(loras=loras(convolutions=1.0)), params(loras=loras(a=0.5)), params()]
    for each, ours in zip(asked, draw(family, *asked), strict=True):
        assert_same(ours, reference(build_pipeline(), files, each))


def test_compiled_blocks_are_passed_by(
    model_folder: Path, files: dict[str, Path], params: Params
) -> None:
    family = load_plain(model_folder)
    family.pipeline.unet.mid_block.compile(backend="eager")
    plain = draw(family, params(num_inference_steps=1))[0]
    family.loras.load("a", files["a"])
    asked = params(num_inference_steps=1, loras=loras(a=1.0))
    assert_same(draw(family, asked)[0], reference(build_pipeline(), files, asked))
    assert_same(draw(family, params(num_inference_steps=1))[0], plain)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (loras(nobody=1.0), "There is no LoRA 'nobody'; this model has 'a', "),
        ((LoraScale("a"), LoraScale("a")), "'a' is named twice; add up its scales"),
        (loras(a=math.nan), "scale of nan; give one from -10 to 10"),
        (loras(a=math.inf), "scale of inf; give one from -10 to 10"),
    ],
)
def test_what_a_request_cannot_ask(
    loaded: StableDiffusion, params: Params, run: Run, asked: tuple[LoraScale, ...], told: str
) -> None:
    (output,) = run(DiffusionEngine(loaded), Request("bad", params(loras=asked)))
    assert isinstance(output, Failure)
    assert told in output.reason


def test_a_model_without_loras_says_so(bank: LoraBank) -> None:
    with pytest.raises(RequestError, match="There is no LoRA 'x'; this model has none"):
        bank.check(loras(x=1.0))


def _with(files: dict[str, Path], path: Path, **changes: torch.Tensor | None) -> Path:
    """Another LoRA, with some of its keys changed or left out."""
    state: dict[str, Any] = load_file(files["b"]) | changes
    save_file({key: value for key, value in state.items() if value is not None}, path)
    return path


MID = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("LoHa", ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha"]),
        ("LoKr", ["lokr_w1", "lokr_w2", "alpha"]),
        ("LoKr", ["lokr_w1_a", "lokr_w1_b", "lokr_w2", "dora_scale"]),
        ("(IA)^3", ["weight", "on_input"]),
        ("(IA)^3", ["ia3_l"]),
        ("OFT", ["oft_blocks", "alpha"]),
        ("OFT", ["oft_R.weight"]),
        ("BOFT", ["boft_R", "boft_s"]),
        ("DoRA", ["lora_down.weight", "lora_up.weight", "dora_scale"]),
        ("DoRA", ["lora_A.weight", "lora_B.weight", "lora_magnitude_vector"]),
        ("full difference of weights", ["diff"]),
        ("full difference of weights", ["lora_down.weight", "lora_up.weight", "diff_b"]),
    ],
)
def test_adapters_of_other_kinds_are_refused_by_name(
    bank: LoraBank, tmp_path: Path, kind: str, names: list[str]
) -> None:
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    path = tmp_path / "adapter.safetensors"
    save_file({f"{layer}.{name}": torch.zeros(4, 4) for name in names}, path)
    told = re.escape(f"holds a {kind}, not a LoRA; use a plain LoRA, or merge the {kind} into a")
    with pytest.raises(LoraLoadError, match=told):
        bank.load("x", path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {f"{MID}.lora_A.weight": torch.ones(4, 9)},
            rf"matrices of \(4, 9\) and \(16, 4\) for {MID}, which takes \(4, 16\) and \(16, 4\)",
        ),
        ({"unet.conv_in.lora_A.weight": torch.ones(4, 4, 1, 1)}, "for unet.conv_in, which takes"),
        ({f"{MID}.lora_B.weight": None}, "has only one of its two matrices"),
        ({f"{MID}.lora_magnitude_vector": torch.ones(16)}, "holds a DoRA, not a LoRA"),
        ({f"{MID}.lora_B.bias": torch.ones(16)}, "neither the down nor the up matrix"),
        ({"unet.mid_block.lora_A.weight": torch.ones(4, 4)}, "only one of its two matrices"),
        (
            {
                "unet.conv_norm_out.lora_A.weight": torch.ones(4, 4),
                "unet.conv_norm_out.lora_B.weight": torch.ones(4, 4),
            },
            "is a GroupNorm, not a linear layer",
        ),
    ],
)
def test_a_file_that_does_not_fit_changes_nothing(
    loaded: StableDiffusion,
    files: dict[str, Path],
    params: Params,
    tmp_path: Path,
    changes: dict[str, torch.Tensor | None],
    told: str,
) -> None:
    before = loaded.loras.names, loaded.loras.nbytes, draw(loaded, params(loras=loras(b=1.0)))[0]
    path = _with(files, tmp_path / "bad.safetensors", **changes)
    with pytest.raises(LoraLoadError, match=told) as error:
        loaded.loras.load("bad", path)
    assert str(path) in str(error.value)
    assert (loaded.loras.names, loaded.loras.nbytes) == before[:2]
    assert_same(draw(loaded, params(loras=loras(b=1.0)))[0], before[2])


def test_files_that_are_no_lora(bank: LoraBank, tmp_path: Path, files: dict[str, Path]) -> None:
    torch.save({"x": torch.ones(1)}, tmp_path / "pickled.bin")
    torch.save({"x": torch.ones(1)}, tmp_path / "disguised.safetensors")
    save_file({"x": torch.ones(1)}, tmp_path / "other.safetensors")
    save_peft(
        tmp_path / "flux.safetensors", matrices(flux.build_dev(), 1, take=lambda n: "trans" in n)
    )
    save_file(
        {
            "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.ones(1),
            "lora_unet_double_blocks_0_img_attn_qkv.alpha": torch.ones(1),
        },
        tmp_path / "broken.safetensors",
    )
    for name, error, told in [
        ("pickled.bin", PickledWeightsError, "can run code; convert it to safetensors"),
        ("disguised.safetensors", LoraLoadError, "is not a safetensors file"),
        ("missing.safetensors", LoraLoadError, "There is no LoRA file"),
        ("other.safetensors", LoraLoadError, "choose a LoRA that was trained for this model"),
        ("flux.safetensors", LoraLoadError, "choose a LoRA that was trained for this model"),
        ("broken.safetensors", LoraLoadError, "is no LoRA that diffusers reads"),
    ]:
        with pytest.raises(error, match=told) as raised:
            bank.load("x", tmp_path / name)
        assert name in str(raised.value)
        assert bank.names == ()
    bank.load("x", files["a"])
    with pytest.raises(LoraLoadError, match="A LoRA 'x' is loaded already"):
        bank.load("x", files["a"])


def test_those_taken_for_requests_leave_when_they_are_too_many(
    bank: LoraBank, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora_bank, "MOST_TAKEN", 2)
    bank.load("configured", files["c"])
    for name in ("first", "second", "first", "third"):  # the second is the least recently used
        bank.take({name: files["a"]}, {name})
    assert list(bank.names) == ["configured", "first", "third"]
    bank.take({"fourth": files["b"]}, {"first", "third", "fourth"})
    assert list(bank.names) == ["configured", "first", "third", "fourth"], "all are in use"
    bank.take({}, {"fourth"})
    assert list(bank.names) == ["configured", "third", "fourth"]


def test_one_taken_that_does_not_fit_fails_its_request(
    bank: LoraBank, files: dict[str, Path], tmp_path: Path
) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(RequestError, match=r"^LoRA 'x' is no LoRA|^LoRA 'x' names no") as raised:
        bank.take({"x": tmp_path / "other.safetensors"}, {"x"})
    assert str(tmp_path) not in str(raised.value)
    assert bank.names == ()


def test_layers_that_the_model_lacks_are_told(
    bank: LoraBank, files: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As diffusers does, the rest is used."""
    stray = {
        "unet.mid_block.attentions.7.proj_in.lora_A.weight": torch.ones(4, 16),
        "unet.mid_block.attentions.7.proj_in.lora_B.weight": torch.ones(16, 4),
    }
    bank.load("b", files["b"])
    bank.load("stray", _with(files, tmp_path / "stray.safetensors", **stray))
    assert bank.adapter("stray").nbytes == bank.adapter("b").nbytes
    assert "unet.mid_block.attentions.7.proj_in" in caplog.text


def test_an_input_that_shows_no_rows_is_refused(loaded: StableDiffusion) -> None:
    layer: Any = loaded.pipeline.unet.mid_block.attentions[0].transformer_blocks[0].ff.net[2]
    flattened = torch.ones(6, layer.in_features)
    rows = [loras(a=1.0), (), loras(b=1.0)]
    with torch.inference_mode():
        plain = layer(flattened)
        with loaded.loras.applied(rows), pytest.raises(LoraLayoutError, match="of 3 rows"):
            layer(flattened)
        with loaded.loras.applied([rows[0]] * 3):
            assert (layer(flattened) - plain).abs().min() > 0


def test_a_pipeline_that_takes_none(tmp_path: Path, files: dict[str, Path]) -> None:
    with pytest.raises(LoraLoadError, match="a LoraBank, which takes no LoRA"):
        LoraBank(LoraBank(None)).load("x", files["a"])


def test_a_model_that_is_loaded_with_a_bad_one_is_not_loaded(
    model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(LoraLoadError, match="There is no LoRA file"):
        load_model(model_folder, "cpu", "float32", loras={"x": tmp_path / "none.safetensors"})
