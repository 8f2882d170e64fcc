"""`python -m pipelines.bench.gpu.child`: measures one part, which a line of stdin names.

It imports torch before it reads the line, so that it can be started while another part runs.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pipelines.bench.gpu.memory import measure_out_of_memory
from pipelines.bench.gpu.parity import measure_parity
from pipelines.bench.gpu.parts import Kind, Part, parts
from pipelines.bench.machine import describe_machine
from pipelines.bench.plan import Plan
from pipelines.bench.run import run
from pipelines.diffusion.loading import choose_device


def main() -> None:
    line = sys.stdin.readline()
    if not line:
        return  # nothing was left to measure
    order = json.loads(line)
    part = next(each for each in parts(order["quick"]) if each.name == order["part"])
    plan = part.plan(order["device"], order["quick"], order["seconds"])
    path = Path(order["path"])
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(_measure(part, plan), indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


def _measure(part: Part, plan: Plan) -> dict[str, Any]:
    device = choose_device(plan.device)
    found: dict[str, Any]
    if part.kind is Kind.PARITY:
        found = asdict(measure_parity(plan))
    elif part.kind is Kind.MEMORY:
        found = asdict(measure_out_of_memory(plan))
    else:
        found = run(plan, lambda section: print(section, file=sys.stderr)).as_json()  # noqa: T201
    on_cuda = device.type == "cuda"
    return {
        "part": part.name,
        "machine": asdict(describe_machine(device)),
        "peak_bytes": torch.cuda.max_memory_allocated(device) if on_cuda else None,
        "found": found,
    }


if __name__ == "__main__":
    main()
