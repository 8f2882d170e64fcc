"""Pictures side by side with their prompts, to look at."""

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw

PROMPTS = (
    *("a cat", "a dog", "a panda", "a lion", "a frog", "a whale", "a butterfly", "an owl"),
    *("a smiley", "a robot", "an apple", "a strawberry", "a hamburger", "a pizza", "ice cream"),
    *("a donut", "a cake", "a coffee", "a rose", "a sunflower", "a cactus", "a tree", "a house"),
    *("a castle", "a car", "a bus", "a rocket", "an airplane", "the sun", "a rainbow", "a crown"),
    *("a gift", "a balloon", "a guitar", "a soccer ball", "a pumpkin", "a red heart"),
    *("a blue circle", "a green square", "a yellow star", "a blue dog", "a pink elephant"),
    *("a purple car", "a green cat", "an apple on a yellow background", "a cat on blue"),
    *("a picture of a red balloon on a green background", "a black rabbit"),
)


def draw(
    pipeline: StableDiffusionPipeline,
    prompts: list[str],
    steps: int = 20,
    guidance_scale: float = 3.0,
    seed: int = 0,
) -> list[Image.Image]:
    """A picture for each prompt, eight at a time; each has a seed of its own from `seed` on."""
    pipeline.set_progress_bar_config(disable=True)
    drawn: list[Image.Image] = []
    for start in range(0, len(prompts), 8):
        chosen = prompts[start : start + 8]
        drawn += pipeline(
            chosen,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=[torch.Generator().manual_seed(seed + start + i) for i in range(len(chosen))],
        ).images
    return drawn


def sheet(images: list[Image.Image], prompts: list[str], columns: int = 8) -> Image.Image:
    """The pictures at twice their size in rows, each over its prompt."""
    side, text = 128, 26
    rows = -(-len(images) // columns)
    canvas = Image.new("RGB", (columns * (side + 8), rows * (side + text)), "white")
    pen = ImageDraw.Draw(canvas)
    for place, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        left, top = place % columns * (side + 8) + 4, place // columns * (side + text)
        canvas.paste(image.resize((side, side), Image.Resampling.LANCZOS), (left, top))
        if len(prompt) > 22 and " on " in prompt:
            prompt = prompt.replace(" on ", "\non ", 1)
        pen.multiline_text((left, top + side), prompt, fill="black", font_size=10, spacing=1)
    return canvas
