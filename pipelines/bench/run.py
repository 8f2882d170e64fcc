"""The whole run, one section after the other, each within its part of the time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from time import monotonic

from pipelines.bench.arms import Arms
from pipelines.bench.calls import CallTime, measure_calls
from pipelines.bench.curve import BatchCurve, measure_curve
from pipelines.bench.machine import describe_machine
from pipelines.bench.overhead import PreviewCost, StepCost, measure_overhead
from pipelines.bench.plan import BATCH, ArmName, Budget, Plan
from pipelines.bench.report import Model, Report
from pipelines.bench.roof import measure_roof
from pipelines.bench.subject import Subject, open_subject
from pipelines.bench.traffic import Clients, Traffic, measure_clients, measure_traffic
from pipelines.diffusion.speed.accelerate import warm_buckets

Say = Callable[[str], None]


def run(plan: Plan, say: Say) -> Report:
    """``say`` is told what is being measured. Raises ModelLoadError or BenchError."""
    start = monotonic()
    say("loading the model")
    subject = open_subject(plan)
    machine = describe_machine(subject.device)
    say("warming up")
    sizes = [(subject.width, subject.height)]
    for _ in warm_buckets(subject.family, sizes, 2 * max(plan.batches)):
        pass
    budget = Budget(plan.minutes * 60)  # neither loading nor compiling is what it is for
    say("matrix products")
    roof = measure_roof(subject.device, subject.family.dtype, subject.clock, budget.share(0.02))
    say("batch curve")
    curve = measure_curve(subject, plan, budget)
    say("step-loop overhead and previews")
    step, preview = _overhead(subject, plan, curve, budget)
    say("diffusers' own calls")
    alone, full = _calls(subject, plan, curve, budget)
    clients: Clients | None = None
    traffic: Traffic | None = None
    if alone is not None and full is not None:
        with closing(Arms(subject)) as arms:
            if {ArmName.STEP, ArmName.LOOP} <= set(plan.arms):
                say(f"{plan.clients} clients")
                gain = curve.gain(BATCH)
                clients = measure_clients(arms, subject, plan, budget, alone, gain)
            say("mixed trace")
            traffic = measure_traffic(arms, subject, plan, budget, alone, full)
    return Report(
        plan=plan,
        machine=machine,
        model=_model(subject),
        roof=roof,
        curve=curve,
        step=step,
        preview=preview,
        alone=alone,
        full=full,
        traffic=traffic,
        clients=clients,
        seconds=monotonic() - start,
    )


def _overhead(
    subject: Subject, plan: Plan, curve: BatchCurve, budget: Budget
) -> tuple[StepCost, PreviewCost] | tuple[None, None]:
    step_s = next((point.step_s for point in curve.points if point.pictures == BATCH), None)
    if step_s is None:
        return None, None
    steps = min(plan.curve_steps, int(budget.share(0.1) / (2 * step_s)))
    return measure_overhead(subject, max(4, steps))


def _calls(
    subject: Subject, plan: Plan, curve: BatchCurve, budget: Budget
) -> tuple[CallTime, CallTime] | tuple[None, None]:
    """Alone, and of a full batch."""
    if not plan.arms or curve.gain(BATCH) is None:
        return None, None
    limit = budget.share(0.03)
    return measure_calls(subject, 1, limit), measure_calls(subject, BATCH, limit)


def _model(subject: Subject) -> Model:
    return Model(
        name=subject.name,
        pipeline=type(subject.pipeline).__name__,
        parameters=sum(each.numel() for each in subject.denoiser.parameters()),
        dtype=str(subject.family.dtype).removeprefix("torch."),
        width=subject.width,
        height=subject.height,
        acceleration=subject.family.acceleration,
        notes=subject.notes,
    )
