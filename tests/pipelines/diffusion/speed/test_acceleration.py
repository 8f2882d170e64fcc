from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from pipelines.diffusion.errors import AccelerationError
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.speed import accelerate as module
from pipelines.diffusion.speed.accelerate import accelerate, choose, repeated_blocks, warm_buckets
from pipelines.diffusion.speed.acceleration import Acceleration, AttentionBackend, Float8, Use
from tests.pipelines.diffusion.conftest import load_plain
from tests.pipelines.diffusion.tiny import flux, stable_diffusion_3

Params = Callable[..., SamplingParams]

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
    assert fresh.first_block_cache is None
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
        (Acceleration(first_block_threshold=0.1), "set first_block_threshold to 0"),
    ],
)
def test_what_cannot_work_names_the_remedy(
    model_folder: Path, wanted: Acceleration, remedy: str
) -> None:
    with pytest.raises(AccelerationError, match=remedy):
        load_model(model_folder, device="cpu", acceleration=wanted)


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
        Acceleration(compile=Use.ALWAYS),
        Acceleration(float8=Float8.WEIGHTS),
        Acceleration(first_block_threshold=0.1),
    ],
)
def test_a_pipeline_that_is_called_whole(wanted: Acceleration) -> None:
    whole = cast("Family", object())
    with pytest.raises(AccelerationError, match="leave it out"):
        accelerate(whole, wanted)
    assert accelerate(whole, Acceleration()).compile is Use.NEVER


def test_a_graph_and_a_cache_exclude_each_other(
    family: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family, "device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(module, "can_cache_first_block", lambda _: True)
    wanted = Acceleration(first_block_threshold=0.1)
    assert choose(family, wanted).cuda_graphs is Use.NEVER
    with pytest.raises(AccelerationError, match="cannot skip blocks"):
        choose(family, replace(wanted, cuda_graphs=Use.ALWAYS))


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
