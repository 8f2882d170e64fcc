from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipelines.diffusion.speed.acceleration import Use
from pipelines.diffusion.speed.vae_tiling import VaeTiling, decode_bytes
from pipelines.diffusion.vae import Vae
from tests.pipelines.diffusion.tiny import stable_diffusion


class PeakBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Of the tensors that are made while it lasts and live at the same time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self._alive:
                    self._alive[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self._alive.pop, storage._cdata, None)
                    self.peak = max(self.peak, sum(self._alive.values()))
        return result


@pytest.fixture(scope="module")
def model() -> AutoencoderKL:
    """Tiles of 16 latents, 64 pixels."""
    torch.manual_seed(7)
    return stable_diffusion.vae()


@pytest.mark.parametrize("widths", [(8, 8, 16), (16, 32, 32), (8, 24)])
def test_predicted_bytes(widths: tuple[int, ...]) -> None:
    """Within a tenth of what a decode takes, when the latents are not small."""
    stages = len(widths)
    vae = stable_diffusion.vae(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        layers_per_block=2,
    )
    latents = torch.randn(1, 4, 24, 16)
    with torch.no_grad(), PeakBytes() as taken:
        vae.decode(latents)
    assert decode_bytes(vae, latents) == pytest.approx(taken.peak, rel=0.1)


def test_bytes_follow_dtype_rows_and_size(model: AutoencoderKL) -> None:
    one = decode_bytes(model, torch.empty(1, 4, 16, 16))
    assert decode_bytes(model, torch.empty(2, 4, 16, 16)) == 2 * one
    assert decode_bytes(model, torch.empty(1, 4, 32, 32)) == 4 * one
    half = stable_diffusion.vae().to(torch.bfloat16)
    assert decode_bytes(half, torch.empty(1, 4, 16, 16)) == one // 2


@pytest.mark.parametrize(
    ("use", "room", "expected"),
    [
        (Use.AUTO, None, False),
        (Use.AUTO, 10**9, False),
        (Use.AUTO, 10**5, True),
        (Use.ALWAYS, 10**9, True),
        (Use.NEVER, 10**5, False),
    ],
)
def test_wanted(model: AutoencoderKL, use: Use, room: int | None, expected: bool) -> None:
    assert VaeTiling(use, room).wanted(model, torch.empty(1, 4, 32, 32)) is expected


def test_free_memory_of_a_cuda_device(
    model: AutoencoderKL, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = torch.empty(1, 4, 32, 32)
    needed = decode_bytes(model, latents)
    free = [needed - 300]
    segments = [
        {"device": 1, "segment_pool_id": (0, 0), "total_size": 500, "allocated_size": 200},
        {
            "device": 1,
            "segment_pool_id": (0, 1),
            "total_size": 9000,
            "allocated_size": 0,
        },  # graphs'
        {"device": 0, "segment_pool_id": (0, 0), "total_size": 9000, "allocated_size": 0},
    ]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free[0], 10**9))
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda **_: segments)
    monkeypatch.setattr(Tensor, "device", torch.device("cuda:1"))
    tiling = VaeTiling(Use.AUTO)
    assert not tiling.wanted(model, latents)
    free[0] -= 1
    assert tiling.wanted(model, latents)


@torch.inference_mode()
def test_a_picture_in_tiles(model: AutoencoderKL, monkeypatch: pytest.MonkeyPatch) -> None:
    """As large as the whole, and about the same."""
    vae = Vae(model)
    latents = torch.randn(1, 4, 32, 24)
    whole = vae.decode(latents)
    sizes = []
    decode = model.decoder.forward

    def spy(tile: Tensor, *args: Any) -> Tensor:
        sizes.append(max(tile.shape[2:]))
        decoded: Tensor = decode(tile, *args)
        return decoded

    monkeypatch.setattr(model.decoder, "forward", spy)
    vae.tiling = VaeTiling(Use.AUTO, memory_bytes=10**5)
    tiled = vae.decode(latents)
    assert max(sizes) == 16
    assert len(sizes) > 1
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().mean() < 0.2 * whole.std()
