"""ControlNets (arXiv:2302.05543): networks that steer a UNet by a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor

from pipelines.diffusion.catalog import read_json
from pipelines.diffusion.errors import ModelIndexError, ModelLoadError, ModelNotFoundError
from pipelines.diffusion.families.rows import Row
from pipelines.diffusion.pixels import unit_tensor
from pipelines.diffusion.request import ControlImage
from pipelines.diffusion.trajectory import Control
from pipelines.diffusion.weights import BROKEN_FILES, check_weights, variant_of

# What a ControlNet and its UNet have in common: the shapes of what is added, and of what is read.
_SHARED = (
    "block_out_channels",
    "layers_per_block",
    "cross_attention_dim",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
)


class ControlNets:
    """Those of one UNet by name; each runs on the rows that use it, at the steps that it acts."""

    def __init__(self, unet: Any) -> None:
        self._unet = unet
        self._models: dict[str, Any] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._models)

    def add(self, name: str, model: Any) -> None:
        """``model`` is as ``read_controlnet`` gives it."""
        self._models[name] = model.to(self._unet.device)

    def prepare(self, asked: ControlImage) -> Control:
        return Control(
            controlnet=asked.controlnet,
            picture=unit_tensor(asked.image).to(self._unet.device, self._unet.dtype),
            scale=asked.scale,
            start=asked.start,
            end=asked.end,
        )

    def residuals(
        self, rows: Sequence[Row], timesteps: Tensor, text: dict[str, Any]
    ) -> dict[str, Any]:
        """What is added to the UNet's skip connections, as arguments for it.

        ``timesteps`` of (rows,) and ``text`` go to the UNet as well. Zero for rows without a
        ControlNet, which leaves them as they are; empty where no row has one at this step.
        """
        total: list[Tensor] = []
        for name, model in self._models.items():
            used = [i for i, row in enumerate(rows) if _acts(name, model, row)]
            if not used:
                continue
            added = [
                _scattered(residual, used, len(rows))
                for residual in _run(model, rows, used, timesteps, text)
            ]
            total = [a + b for a, b in zip(total, added, strict=True)] if total else added
        if not total:
            return {}
        return {
            "down_block_additional_residuals": total[:-1],
            "mid_block_additional_residual": total[-1],
        }


def read_controlnet(folder: Path, unet: Any, vae_scale_factor: int) -> Any:
    """A ``ControlNetModel`` in plain memory, in the UNet's dtype; safetensors only.

    Raises ModelLoadError for one that is broken, or that does not fit the UNet.
    """
    check_controlnet_folder(folder)
    _check_fit(folder, unet, vae_scale_factor)
    try:
        model, told = ControlNetModel.from_pretrained(
            folder,
            dtype=unet.dtype,
            use_safetensors=True,
            variant=variant_of(folder),
            local_files_only=True,
            output_loading_info=True,
        )
    except BROKEN_FILES as error:
        raise ModelLoadError(
            f"The ControlNet in {str(folder)!r} could not be loaded; copy or download it"
            f" again: {error}"
        ) from error
    if told["missing_keys"]:  # diffusers would fill them with random numbers
        raise ModelLoadError(
            f"{str(folder)!r} lacks {len(told['missing_keys'])} weights that its config.json"
            " asks for; copy or download it again."
        )
    return model.eval()


def check_controlnet_folder(folder: Path) -> None:
    """That it is a ControlNet's, with sound weights. Raises ModelLoadError."""
    if not folder.is_dir():
        raise ModelNotFoundError(
            f"There is no ControlNet folder {str(folder)!r}; give one that diffusers'"
            " save_pretrained wrote."
        )
    path = folder / "config.json"
    config = read_json(path)
    if config.get("_class_name") != "ControlNetModel":
        raise ModelIndexError(
            f"{str(path)!r} names {config.get('_class_name')!r}; choose a folder of a"
            " 'ControlNetModel'."
        )
    check_weights(folder)


def _check_fit(folder: Path, unet: Any, vae_scale_factor: int) -> None:
    path = folder / "config.json"
    config = read_json(path)
    has = {name: config.get(name) for name in _SHARED}
    wants = {name: unet.config.get(name) for name in _SHARED}
    has["pixels to a latent"] = 2 ** (len(config["conditioning_embedding_out_channels"]) - 1)
    wants["pixels to a latent"] = vae_scale_factor
    for name, value in wants.items():
        if _plain(has[name]) != _plain(value):
            raise ModelLoadError(
                f"{str(path)!r} does not fit the model: its {name} is {has[name]}, not"
                f" {value}; take a ControlNet that was trained for this model."
            )


def _acts(name: str, model: Any, row: Row) -> bool:
    control = row.trajectory.control
    if control is None or control.controlnet != name or row.trajectory.control_scale == 0:
        return False
    # One that pools its residuals steers by the difference between the rows, as in diffusers.
    return not (row.unconditional and model.config.global_pool_conditions)


def _run(
    model: Any, rows: Sequence[Row], used: list[int], timesteps: Tensor, text: dict[str, Any]
) -> list[Tensor]:
    """The residuals of the rows in use: those of the down blocks, then the middle one's."""
    trajectories = [rows[i].trajectory for i in used]
    scales = torch.tensor([each.control_scale for each in trajectories]).view(-1, 1, 1, 1)
    down, middle = model(
        torch.cat([each.scaled_latents for each in trajectories]),
        timesteps[used],
        controlnet_cond=torch.cat([each.control.picture for each in trajectories if each.control]),
        conditioning_scale=scales.to(trajectories[0].latents),
        return_dict=False,
        **_selected(text, used),
    )
    return [*down, middle]


def _selected(tensors: dict[str, Any], used: list[int]) -> dict[str, Any]:
    return {
        name: _selected(each, used) if isinstance(each, dict) else each[used]
        for name, each in tensors.items()
    }


def _scattered(residual: Tensor, used: list[int], rows: int) -> Tensor:
    if len(used) == rows:
        return residual
    full = residual.new_zeros(rows, *residual.shape[1:])
    full[used] = residual
    return full


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
