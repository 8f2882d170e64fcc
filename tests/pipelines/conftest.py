"""Tiny models: more threads than one only wait for each other, on a busy machine for minutes."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
