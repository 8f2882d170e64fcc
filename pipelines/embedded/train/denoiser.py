# ruff: noqa: T201
"""The UNet and the text encoder, trained together to predict v."""

import copy
import math
import random
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import distributed, nn
from transformers import CLIPTokenizer

from . import latents, text
from .captions import caption
from .icons import TRAIN_PATH

PATH = TRAIN_PATH / "denoiser.pt"

PADDED = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
"""As `StableDiffusionPipeline` calls its tokenizer."""


class Denoiser(nn.Module):
    """A UNet conditioned on a text encoder."""

    def __init__(self, tokens: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = text.build(tokens)
        self.unet = UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            block_out_channels=(64, 128, 192),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=192,
            attention_head_dim=4,
            # The pooled prompt also joins the time embedding and so reaches every block: without
            # this the words take several times as many samples to be heeded.
            addition_embed_type="text",
            addition_embed_type_num_heads=4,
        )

    @torch.no_grad()
    def spread(self, ids: torch.Tensor) -> None:
        """Starts different prompts, token ids [N, length], far apart once they are pooled.

        Most of a padded prompt is the same for all, so that its few words would hardly show. The
        projection is set to whiten what it gets (PCA whitening, mean 0 and variance 1).
        """
        pooling = self.unet.add_embedding
        pooled = pooling.pool(pooling.norm1(self.text_encoder(ids).last_hidden_state))
        mean = pooled.mean(0)
        variances, directions = torch.linalg.eigh((pooled - mean).T.cov())
        weight = directions.T / (variances + 1e-2 * variances.mean()).sqrt()[:, None]
        weight = nn.init.orthogonal_(torch.empty_like(pooling.proj.weight)) @ weight
        pooling.proj.weight.copy_(weight)
        pooling.proj.bias.copy_(-weight @ mean)
        nn.init.constant_(pooling.norm2.weight, 0.5)

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, ids: torch.Tensor
    ) -> torch.Tensor:
        """v [N, 4, 16, 16] of noisy latents at timesteps [N], for token ids [N, length]."""
        states = self.text_encoder(ids).last_hidden_state
        output: torch.Tensor = self.unet(noisy, timesteps, encoder_hidden_states=states).sample
        return output


def noise_scheduler() -> DDIMScheduler:
    """Stable Diffusion's betas, for v-prediction."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def learning_rate(step: int, progress: float) -> float:
    """1e-3 after 100 steps of warm-up; from progress 0.72 on down a cosine to 1e-5 at 1."""
    decay = min(max(progress - 0.72, 0) / 0.28, 1.0)
    cosine = (1 + math.cos(math.pi * decay)) / 2
    return 1e-3 * min(1.0, (step + 1) / 100) * (0.01 + 0.99 * cosine)


def work(rank: int, processes: int, seconds: float, batch_size: int, path: Path) -> None:
    """Trains as one of so many equal processes; the first one keeps the checkpoint.

    v-prediction is that of Salimans and Ho (2022), https://arxiv.org/abs/2202.00512; the loss
    weight bounds that of the least noisy timesteps as in Hang et al. (2023),
    https://arxiv.org/abs/2303.09556.
    """
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{path}.store", rank=rank, world_size=processes
    )
    tokens, data = text.tokenizer(), latents.restore()
    torch.manual_seed(0)
    model = Denoiser(tokens).train()
    model.spread(tokens(text.corpus()[:6000:2], **PADDED).input_ids)
    average = copy.deepcopy(model).requires_grad_(False)
    parameters: list[torch.Tensor] = list(model.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=0.0, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    elapsed, step = 0.0, 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        elapsed, step = saved["elapsed"], saved["step"]
    # All gradients are views of one tensor, followed by the loss and the time that has passed.
    shared = torch.zeros(sum(p.numel() for p in parameters) + 2)
    sizes = [p.numel() for p in parameters]
    for parameter, gradient in zip(parameters, torch.split(shared[:-2], sizes), strict=True):
        parameter.grad = gradient.view_as(parameter)
    chance = random.Random(step * processes + rank)  # noqa: S311
    generator = torch.Generator().manual_seed(step * processes + rank)
    alphas = noise_scheduler().alphas_cumprod
    weights = (6 / (alphas / (1 - alphas) + 1)).clamp(max=1)
    weights /= weights.mean()
    tick = kept = time.monotonic()
    losses = 0.0
    while elapsed < seconds:
        optimizer.param_groups[0]["lr"] = learning_rate(step, elapsed / seconds)
        chosen = torch.multinomial(data.weights, batch_size, True, generator=generator)
        clean = data.latents[chosen].float()
        words = [caption(data.contents[i], chance) for i in chosen.tolist()]
        ids = tokens(words, **PADDED).input_ids
        # Stratified, and denser where there is much noise: there it is settled what is drawn.
        strata = torch.arange(batch_size) + torch.rand(batch_size, generator=generator)
        timesteps = ((strata / batch_size).pow(2 / 3) * len(alphas)).long()
        timesteps.clamp_(max=len(alphas) - 1)
        alpha = alphas[timesteps].view(-1, 1, 1, 1)
        noise = torch.randn(clean.shape, generator=generator)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        error = (model(noisy, timesteps, ids) - velocity).square().mean((1, 2, 3))
        loss = (error * weights[timesteps]).mean()
        shared.zero_()
        torch.autograd.backward(loss)
        now = time.monotonic()
        shared[-2], shared[-1] = loss.item(), now - tick
        tick = now
        distributed.all_reduce(shared)
        shared /= processes
        losses += shared[-2].item()
        elapsed += shared[-1].item()
        shared *= (1.0 / shared[:-2].norm()).clamp(max=1)
        optimizer.step()
        step += 1
        if rank > 0:
            continue
        decay = min(0.998, step / (step + 9))
        torch._foreach_lerp_(list(average.parameters()), parameters, 1 - decay)
        if step % 50 == 0:
            print(f"{step} {elapsed:.0f}s loss {losses / 50:.4f}", flush=True)
            losses = 0.0
        if now - kept > 180 or elapsed >= seconds:
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "elapsed": elapsed,
                "step": step,
            }
            torch.save(state, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
            kept = now
    distributed.destroy_process_group()


def train(seconds: float, processes: int = 2, batch_size: int = 8, path: Path = PATH) -> None:
    """Trains for so many seconds in all, resuming from `path`; `batch_size` is a process's.

    One process a core, each with one thread: on two cores that other programs share, threads
    wait for one another at every operation, processes only once a step.
    """
    latents.restore()
    Path(f"{path}.store").unlink(missing_ok=True)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        each = [
            pool.submit(work, rank, processes, seconds, batch_size, path)
            for rank in range(processes)
        ]
        for done in as_completed(each):
            done.result()
