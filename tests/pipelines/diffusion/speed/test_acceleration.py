from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.bench.subject import family_of
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.errors import AccelerationError
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.families.whole_call import WholeCall
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import Output, Request, Result, SamplingParams
from pipelines.diffusion.speed import accelerate as module
from pipelines.diffusion.speed import attention, float8
from pipelines.diffusion.speed.accelerate import accelerate, choose, repeated_blocks, warm_buckets
from pipelines.diffusion.speed.acceleration import Acceleration, AttentionBackend, Float8, Use
from tests.pipelines.diffusion.conftest import load_plain
from tests.pipelines.diffusion.tiny import flux, pixart_alpha, stable_diffusion_3, z_image

Params = Callable[..., SamplingParams]
Run = Callable[..., list[Output]]

NOTHING = Acceleration(
    attention=AttentionBackend.SDPA,
    channels_last=Use.NEVER,
    vae_channels_last=Use.NEVER,
    compile=Use.NEVER,
    cuda_graphs=Use.NEVER,
    decode_stream=Use.NEVER,
    vae_tiling=Use.NEVER,
)


@pytest.fixture
def fresh(model_folder: Path) -> StableDiffusion:
    """Weights of its own, to be changed."""
    return load_plain(model_folder)


@pytest.fixture
def whole(tmp_path: Path) -> WholeCall:
    """A pipeline without a family of its own, which is called whole."""
    pixart_alpha.build_pipeline().save_pretrained(tmp_path)
    family = load_model(tmp_path, device="cpu", dtype="float32")
    assert isinstance(family, WholeCall)
    return family


@torch.inference_mode()
def draw(family: StableDiffusion, asked: SamplingParams) -> Tensor:
    trajectory = family.prepare(asked, family.encode(asked))
    while not trajectory.finished:
        trajectory.advance(family.denoise([trajectory])[0])
    return family.decode(trajectory.latents)


def test_auto_on_the_cpu(fresh: StableDiffusion) -> None:
    expected = replace(NOTHING, vae_channels_last=Use.ALWAYS, vae_tiling=Use.AUTO)
    assert accelerate(fresh, Acceleration()) == expected
    assert fresh.acceleration == expected
    assert fresh.batch_buckets == ()
    assert list(warm_buckets(fresh)) == []


def test_auto_on_cuda(family: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be chosen there; nothing of it runs here."""
    monkeypatch.setattr(family, "device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(module, "find_spec", lambda _: object())
    chosen = choose(family, Acceleration())
    assert chosen == Acceleration(
        attention=AttentionBackend.SDPA,  # FlashAttention 3 is not installed here
        channels_last=Use.ALWAYS,
        vae_channels_last=Use.ALWAYS,
        compile=Use.ALWAYS,
        cuda_graphs=Use.ALWAYS,
        decode_stream=Use.ALWAYS,
    )
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert choose(family, Acceleration()).compile is Use.NEVER
    with pytest.raises(AccelerationError, match="triton"):
        choose(family, Acceleration(compile=Use.ALWAYS))


@pytest.mark.parametrize(
    ("wanted", "remedy"),
    [
        (Acceleration(attention=AttentionBackend.FLASH3), "set attention to 'auto'"),
        (Acceleration(attention=AttentionBackend.XFORMERS), "set attention to 'auto'"),
        (Acceleration(cuda_graphs=Use.ALWAYS), "set cuda_graphs to 'never'"),
        (Acceleration(float8=Float8.DYNAMIC), "set float8 to"),
    ],
)
def test_what_cannot_work_names_the_remedy(
    model_folder: Path, wanted: Acceleration, remedy: str
) -> None:
    with pytest.raises(AccelerationError, match=remedy):
        load_model(model_folder, device="cpu", acceleration=wanted)


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libcudart.so.13: cannot open shared object file"),
        RuntimeError("Module 'flash_attn_interface' does not expose FA3 kernels"),
        ValueError("Unknown flash attention impl 'FA3'. Available implementations: []"),
    ],
)
def test_flash_attention_that_does_not_start(
    error: Exception,
    fresh: StableDiffusion,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The errors are those of torch's activation."""

    def refuse(_: str) -> None:
        raise error

    monkeypatch.setattr(attention, "activate_flash_attention_impl", refuse)
    monkeypatch.setattr(attention, "_flash3_obstacle", lambda *_: None)
    chosen = accelerate(fresh, replace(NOTHING, attention=AttentionBackend.AUTO))
    assert chosen.attention is AttentionBackend.SDPA
    assert str(error) in caplog.text
    fresh.acceleration = None
    with pytest.raises(AccelerationError, match="set attention to 'auto'"):
        accelerate(fresh, replace(NOTHING, attention=AttentionBackend.FLASH3))
    assert fresh.acceleration is None


@pytest.mark.parametrize(
    ("build", "remedy"), [(flux.build_dev, "xformers"), (z_image.build_pipeline, "xformers")]
)
def test_xformers_that_does_not_start(build: Callable[[], Any], remedy: str) -> None:
    """Models with one attention processor for all backends, and with none to be asked for."""
    with pytest.raises(AccelerationError, match=remedy):
        attention.set_attention(build().transformer, AttentionBackend.XFORMERS, asked=True)


def test_what_float8_computes_with(
    family: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family, "device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(float8, "find_spec", lambda _: object())
    for dtype in (torch.float32, torch.float16):
        monkeypatch.setattr(family, "dtype", dtype)
        with pytest.raises(AccelerationError, match="set dtype to 'bfloat16'"):
            choose(family, Acceleration(float8=Float8.DYNAMIC))
        assert choose(family, Acceleration(float8=Float8.WEIGHTS)).float8 is Float8.WEIGHTS
    monkeypatch.setattr(family, "dtype", torch.bfloat16)
    assert choose(family, Acceleration(float8=Float8.DYNAMIC)).float8 is Float8.DYNAMIC


def test_prompts_of_any_length_and_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Z-Image's passes have as many shapes as there are combinations of captions."""
    family = family_of(z_image.build_pipeline())
    monkeypatch.setattr(family, "device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(module, "find_spec", lambda _: object())
    chosen = choose(family, Acceleration())
    assert chosen.cuda_graphs is chosen.compile is Use.NEVER
    with pytest.raises(AccelerationError, match="set cuda_graphs to 'never'"):
        choose(family, Acceleration(cuda_graphs=Use.ALWAYS))


def test_no_compiler(family: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(AccelerationError, match=r"install g\+\+"):
        choose(family, Acceleration(compile=Use.ALWAYS))
    assert choose(family, Acceleration()).compile is Use.NEVER


def test_a_vae_without_tiles(family: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(type(family.vae.model), "tiled_decode")
    assert choose(family, Acceleration()).vae_tiling is Use.NEVER
    with pytest.raises(AccelerationError, match="set vae_tiling to 'never'"):
        choose(family, Acceleration(vae_tiling=Use.ALWAYS))


@pytest.mark.parametrize(
    "wanted",
    [
        Acceleration(cuda_graphs=Use.ALWAYS),
        Acceleration(compile=Use.ALWAYS, float8=Float8.WEIGHTS),
    ],
)
def test_a_pipeline_that_is_called_whole(whole: WholeCall, wanted: Acceleration) -> None:
    with pytest.raises(AccelerationError, match="leave it out"):
        accelerate(whole, wanted)
    assert accelerate(whole, Acceleration()).compile is Use.NEVER


def test_whole_calls_without_blocks_are_not_compiled(whole: WholeCall) -> None:
    whole.pipeline.transformer.transformer_blocks = nn.ModuleList()
    with pytest.raises(AccelerationError, match="no repeated blocks"):
        accelerate(whole, Acceleration(compile=Use.ALWAYS))


@pytest.mark.model
@pytest.mark.usefixtures("compiler")
def test_compiled_whole_calls(whole: WholeCall, params: Params, run: Run) -> None:
    """Once for calls of any size, and to the same pictures."""
    asked = [
        Request(str(seed), params(seed=seed, width=256, height=256, num_inference_steps=2))
        for seed in range(3)
    ]
    expected = drawn(run(DiffusionEngine(whole), *asked))
    assert accelerate(whole, Acceleration(compile=Use.ALWAYS)).compile is Use.ALWAYS
    before = graphs()
    assert abs(drawn(run(DiffusionEngine(whole), *asked)) - expected).max() <= 1  # of 255
    compiled = graphs()
    assert compiled > before
    assert abs(drawn(run(DiffusionEngine(whole), *asked[:2])) - expected[:2]).max() <= 1
    assert graphs() == compiled


def drawn(outputs: Sequence[Output]) -> NDArray[np.int16]:
    """(pictures, height, width, 3), by identifier."""
    pictures = {each.request_id: each.image for each in outputs if isinstance(each, Result)}
    return np.stack([pictures[id_] for id_ in sorted(pictures)]).astype(np.int16)


def test_memory_format_changes_no_picture(
    family: StableDiffusion, fresh: StableDiffusion, params: Params
) -> None:
    accelerate(fresh, replace(NOTHING, channels_last=Use.ALWAYS, vae_channels_last=Use.ALWAYS))
    for part in (fresh.denoiser.conv_in, fresh.vae.model.decoder.conv_in):
        assert part.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(draw(fresh, params()), draw(family, params()), atol=1e-4, rtol=0)


def test_the_prompt_cache_has_the_size_that_was_asked_for(
    fresh: StableDiffusion, params: Params
) -> None:
    accelerate(fresh, replace(NOTHING, prompt_cache_bytes=0))
    fresh.encode(params())
    assert fresh.prompts.nbytes == 0


@pytest.mark.parametrize(
    ("build", "count"), [(flux.build_dev, 4), (stable_diffusion_3.build_pipeline, 3)]
)
def test_the_blocks_of_a_transformer(build: Callable[[], Any], count: int) -> None:
    assert len(repeated_blocks(build().transformer)) == count


def test_float8_weights(params: Params) -> None:
    """Where torchao is installed: weights of half the size or less, about the same output."""
    quantization = pytest.importorskip("torchao.quantization")
    from pipelines.diffusion.speed.float8 import quantize

    transformer = flux.build_dev().transformer
    layer = transformer.transformer_blocks[0].attn.to_q
    x = torch.randn(3, layer.in_features)
    with torch.inference_mode():
        exact = layer(x)
        quantize(repeated_blocks(transformer), Float8.WEIGHTS)
        assert isinstance(layer.weight, quantization.Float8Tensor)
        assert not isinstance(transformer.proj_out.weight, quantization.Float8Tensor)
        assert (layer(x) - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.fixture
def compiler() -> Iterator[None]:
    """Leaves the process as it was."""
    yield
    torch._dynamo.reset()
    torch.compiler.set_stance("default")


@pytest.mark.model
@pytest.mark.usefixtures("compiler")
def test_compiled_buckets(family: StableDiffusion, fresh: StableDiffusion, params: Params) -> None:
    """Compiled once for each bucket before the first request, and never again."""
    accelerate(fresh, replace(NOTHING, compile=Use.ALWAYS, batch_buckets=(2, 4)))
    assert list(warm_buckets(fresh)) == [2, 4]
    compiled = graphs()
    assert compiled > 0
    asked = [params(seed=seed, guidance_scale=1.0) for seed in range(5)]
    asked[0] = params(seed=0)
    for batch in (asked[:1], asked[:2], asked[1:4], asked):  # 2, 3, 3 and 6 rows
        with torch.inference_mode():
            ours, theirs = (
                each.denoise([each.prepare(one, each.encode(one)) for one in batch])
                for each in (fresh, family)
            )
        for prediction, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(prediction, expected, atol=1e-4, rtol=0)
    picture = draw(fresh, params(width=96))  # a size that was not warmed
    torch.testing.assert_close(picture, draw(family, params(width=96)), atol=1e-4, rtol=0)
    assert graphs() == compiled


def graphs() -> int:
    """Compiled so far, in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
