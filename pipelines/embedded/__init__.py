"""A small text-to-image model of our own, so that pictures can be drawn without a download."""

from pathlib import Path

MODEL_PATH = Path(__file__).parent / "model"
"""The model's folder, in the format of diffusers' `StableDiffusionPipeline`."""
