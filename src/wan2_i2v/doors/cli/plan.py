"""`wan2-i2v plan`: what generate would do, and whether it can, without doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.generate import Images, first_failure, report_refusal
from wan2_i2v.doors.cli.options import request_options
from wan2_i2v.doors.cli.output import AsJson

if TYPE_CHECKING:
    from wan2_i2v.plan import JobPlan


@request_options
def plan(*, images: Images, json: AsJson = False, **options: Any) -> int:
    """Show what generate would do.

    Every number that it would use, the memory that it needs, and warnings. Nothing is run or written.
    """
    from wan2_i2v.api import Order
    from wan2_i2v.doors.cli import inputs

    entries = inputs.planned(images, options, runnable=False)
    codes = []
    for entry in entries:
        codes.append(report_refusal(entry, as_json=json))
        if isinstance(entry.outcome, Order):
            if json:
                output.result(entry.outcome.plan.model_dump(mode="json"))
            else:
                show(entry.outcome.plan, output.console())
    return first_failure(codes)


def show(plan: JobPlan, console: Console) -> None:
    """Print a plan as tables."""
    console.print(_facts(plan))
    console.print(_steps(plan))
    console.print(_peaks(plan))
    for warning in plan.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    console.print()


def _facts(plan: JobPlan) -> Table:
    from wan2_i2v import places

    boundary = "" if plan.boundary_ratio is None else f", boundary {plan.boundary_ratio:g}"
    cut = "" if plan.model_frames == plan.num_frames else f" (the model makes {plan.model_frames})"
    absent = "" if plan.model_files else f" (not here yet: wan2-i2v models pull {plan.model})"
    table = Table(title=plan.job_id, title_justify="left", title_style="bold", show_header=False, box=None)
    for name, value in (
        (
            "picture",
            f"{plan.image.path} ({plan.image.width}×{plan.image.height} {plan.image.format} {plan.image.mode})",
        ),
        ("prompt", plan.prompt),
        ("negative prompt", plan.negative_prompt),
        (
            "clip",
            f"{plan.width}×{plan.height}, {plan.num_frames} frames{cut}, {plan.fps:g} fps, {plan.duration_s:.3f} s",
        ),
        ("seed", str(plan.seed)),
        ("model", f"{plan.model} on {plan.device} in {plan.dtype}{absent}"),
        *((f"LoRA, {lora.expert}", lora.about) for lora in plan.loras),
        ("sampling", f"{plan.recipe}: {plan.sampler}, {plan.scheduler}, shift {plan.flow_shift:g}{boundary}"),
        ("guidance", plan.guidance),
        ("output", f"{places.final_path(plan)} (crf {plan.crf})"),
    ):
        table.add_row(name, _plain(value))
    return table


def _plain(value: str) -> str:
    """A user's text that Rich shall not read as markup."""
    from rich.markup import escape

    return escape(value)


def _steps(plan: JobPlan) -> Table:
    table = Table("step", "sigma", "timestep", "expert", "CFG", box=None, header_style="dim")
    for number, step in enumerate(plan.steps, start=1):
        table.add_row(str(number), f"{step.sigma:.4f}", f"{step.timestep:.1f}", step.expert, f"{step.guidance_scale:g}")
    return table


def _peaks(plan: JobPlan) -> Table:
    table = Table("stage", "weights GiB", "activations GiB", "peak GiB", box=None, header_style="dim")
    for peak in plan.peaks:
        numbers = (peak.weights_gib, peak.activations_gib, peak.memory_gib)
        table.add_row(peak.stage, *(f"{number:.2f}" for number in numbers))
    return table
