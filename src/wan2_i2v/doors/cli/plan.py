"""`wan2-i2v plan`: what generate would do, and whether it can, without doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.generate import first_failure, report_refusal
from wan2_i2v.doors.cli.options import request_options
from wan2_i2v.doors.cli.output import AsJson
from wan2_i2v.errors import InvalidRequest

if TYPE_CHECKING:
    from wan2_i2v.devices import Machine
    from wan2_i2v.memory import StagePeak
    from wan2_i2v.placement import ClusterPlan
    from wan2_i2v.plan import ImageFacts, JobPlan
    from wan2_i2v.request import GenerateRequest


OptionalImages = Annotated[
    list[str] | None,
    typer.Argument(metavar="IMAGE", help="As for generate; none with --table.", show_default=False),
]
Vram = Annotated[
    float | None,
    typer.Option(
        "--vram", min=1, max=2048, metavar="GB", help="Plan for a card of so many GB instead of what is here."
    ),
]
Ram = Annotated[
    float | None,
    typer.Option("--ram", min=1, max=65536, metavar="GB", help="Plan for so much RAM instead of what is here."),
]
AsTable = Annotated[
    bool,
    typer.Option(
        "--table",
        help="What fits which card: sizes and lengths on 8 to 80 GB (or --vram) beside 32 GB of RAM (or --ram), with how "
        "the experts are held, the highest peak in GiB and the time.",
    ),
]


@request_options
def plan(
    *,
    images: OptionalImages = None,
    vram: Vram = None,
    ram: Ram = None,
    table: AsTable = False,
    json: AsJson = False,
    **options: Any,
) -> int:
    """Show what generate would do.

    Every number that it would use, memory and time of every stage, and warnings. Nothing is run or written.
    """
    from wan2_i2v.api import Order
    from wan2_i2v.devices import Machine
    from wan2_i2v.doors.cli import inputs

    if (table or vram is not None) and options["device"] == "cpu":
        raise InvalidRequest(
            "device", "cpu", "a card, or nothing, with --vram and --table", "Leave them out to plan for the CPU."
        )
    if table:
        given = {"IMAGE": images, **{name: options[name] for name in ("width", "height", "num_frames")}}
        for name, value in given.items():
            if value:
                raise InvalidRequest(name, value, "nothing with --table", "It shows its own sizes and lengths.")
        return _show_grid(inputs.of_flags(options), Machine(vram, ram), as_json=json)
    if not images:
        raise InvalidRequest("IMAGE", None, "a picture, a folder or a job list", "Only --table needs none.")
    entries = inputs.planned(images, options, runnable=False, machine=Machine(vram, ram))
    codes = []
    for entry in entries:
        codes.append(report_refusal(entry, as_json=json))
        if isinstance(entry.outcome, Order):
            if json:
                output.result(entry.outcome.plan.model_dump(mode="json"))
            else:
                show(entry.outcome.plan, output.console())
    return first_failure(codes)


def _show_grid(request: GenerateRequest, machine: Machine, *, as_json: bool) -> int:
    """Plans of many sizes and lengths, on all cards or on that of `machine`."""
    from wan2_i2v import grid, measured
    from wan2_i2v.models import catalog
    from wan2_i2v.models.lora import choosing

    vram = grid.CARDS if machine.vram_gb is None else (machine.vram_gb,)
    ram = machine.ram_gb or grid.RAM_GB
    model = catalog.look(request.model)
    loras = choosing.choose(request, model)
    lines = grid.grid(request, model, loras, vram=vram, ram_gb=ram, table=measured.load())
    if as_json:
        for line in lines:
            output.result(line.model_dump(mode="json"))
        return 0
    shown = Table("size × frames", *map(grid.heading, vram), title_justify="left", box=None, header_style="dim")
    shown.title = f"{request.model}, {ram:g} GB of RAM: experts, highest peak in GiB, time (~ is an estimate)"
    for line in lines:
        shown.add_row(f"{line.width}×{line.height}×{line.num_frames}", *(cell.text for cell in line.cells))
    output.console().print(shown)
    return 0


def show(plan: JobPlan, console: Console) -> None:
    """Print a plan as tables."""
    console.print(_facts(plan))
    console.print(_steps(plan))
    if plan.comfyui is None:
        console.print(_stages(plan))
    if plan.cluster is not None:
        console.print(_cluster(plan.cluster), markup=False, soft_wrap=True)
    for warning in plan.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    console.print()


def _facts(plan: JobPlan) -> Table:
    from wan2_i2v import places

    boundary = "" if plan.boundary_ratio is None else f", boundary {plan.boundary_ratio:g}"
    cut = "" if plan.model_frames == plan.num_frames else f" (the model makes {plan.model_frames})"
    absent = "" if plan.model_files or plan.comfyui else f" (not here yet: wan2-i2v models pull {plan.model})"
    table = Table(title=plan.job_id, title_justify="left", title_style="bold", show_header=False, box=None)
    for name, value in (
        ("picture", _picture(plan.image)),
        *([("last picture", _picture(plan.last_image))] if plan.last_image else []),
        ("prompt", plan.prompt),
        ("negative prompt", plan.negative_prompt + _added(plan)),
        ("seen", _seen(plan)),
        ("crop", _crop(plan)),
        (
            "clip",
            f"{plan.width}×{plan.height}, {plan.num_frames} frames{cut}, {plan.fps:g} fps, {plan.duration_s:.3f} s",
        ),
        ("seed", str(plan.seed) + _attempts(plan)),
        ("model", f"{plan.model} on {plan.device} in {plan.dtype}{absent}" if plan.comfyui is None else _server(plan)),
        *([("kernels", _kernels(plan))] if plan.comfyui is None else []),
        *((f"LoRA, {lora.expert}", lora.about) for lora in plan.loras),
        ("sampling", f"{plan.recipe}: {plan.sampler}, {plan.scheduler}, shift {plan.flow_shift:g}{boundary}"),
        ("guidance", plan.guidance),
        ("output", f"{places.final_path(plan)} (crf {plan.crf})"),
    ):
        table.add_row(name, _plain(value))
    return table


def _picture(image: ImageFacts) -> str:
    return f"{image.path} ({image.width}×{image.height} {image.format} {image.mode})"


def _kernels(plan: JobPlan) -> str:
    return f"attention {plan.attention}{', compiled blocks' if plan.compiled else ''}"


def _server(plan: JobPlan) -> str:
    assert plan.comfyui is not None
    files = ", ".join(plan.comfyui.files.named().values())
    return f"{plan.model} in ComfyUI at {plan.comfyui.url} ({files})"


def _added(plan: JobPlan) -> str:
    if not plan.added_negative:
        return ""
    whole = plan.added_negative == plan.negative_prompt
    words = "this is" if whole else f"the last {plan.added_negative.count(', ') + 1} phrases are"
    return f" ({words} mouth prevention; --allow-speech leaves it out)"


def _attempts(plan: JobPlan) -> str:
    told = [f"best of {plan.best_of}, seeds from there on"] if plan.best_of > 1 else []
    told += [f"up to {plan.retries} more with the remedy that failed checks name"] if plan.retries else []
    told += [f"within {plan.time_budget:g} s"] if told and plan.time_budget is not None else []
    return f" ({'; '.join(told)})" if told else ""


def _seen(plan: JobPlan) -> str:
    """What the picture shows, in one line."""
    seen = plan.analysis
    if seen is None:
        return "not looked at"
    faces = ", ".join(f"{face.height} px" for face in seen.faces[:4]) if seen.faces else ""
    told = [
        f"{seen.background} background {seen.background_colour}",
        f"{len(seen.faces)} {'face' if len(seen.faces) == 1 else 'faces'}",
    ]
    told[1] += f" ({faces}), mouth risk {seen.mouth_risk}" if faces else ""
    if seen.transparent_share > 0:
        told.append(f"{seen.transparent_share:.1%} transparent")
    return ", ".join(told)


def _crop(plan: JobPlan) -> str:
    from wan2_i2v import advice

    told = advice.kept(plan)
    box = "" if plan.crop_box is None else " " + ", ".join(f"{side:g}" for side in plan.crop_box)
    return f"{plan.crop}{box}" + ("" if told is None else f": keeps {told[1]:.0%} of {told[0]}")


def _plain(value: str) -> str:
    """A user's text that Rich shall not read as markup."""
    from rich.markup import escape

    return escape(value)


def _steps(plan: JobPlan) -> Table:
    from wan2_i2v import notes

    loras = ["LoRAs"] if plan.loras else []
    changed = {lora.expert for lora in plan.loras if lora.strength}
    table = Table("step", "sigma", "timestep", "expert", "guidance", *loras, box=None, header_style="dim")
    for number, step in enumerate(plan.steps, start=1):
        numbers = (str(number), f"{step.sigma:.4f}", f"{step.timestep:.1f}")
        loras = ["yes" if step.expert in changed and not step.plain else "no"] if plan.loras else []
        table.add_row(*numbers, step.expert, notes.acting(step, plan.nag), *loras)
    return table


def _stages(plan: JobPlan) -> Table:
    """Memory and time of every stage; RAM is the process's own."""
    from wan2_i2v import grid, timing

    table = Table(
        "stage", "weights", "activations", "peak GiB", "RAM GiB", "held", "time", box=None, header_style="dim"
    )
    peaks = {peak.stage: peak for peak in plan.peaks}
    for time in plan.times:
        about = "~" if time.basis == "estimate" else ""
        took = f"{about}{grid.duration(time.seconds + time.loading_s)}"
        peak = peaks.get(time.stage)
        if peak is None:
            table.add_row(time.stage, "", "", "", "", "", took)
            continue
        numbers = (peak.weights_gib, peak.activations_gib, peak.memory_gib, peak.ram_gib)
        table.add_row(peak.stage, *(f"{number:.2f}" for number in numbers), _held(peak), took)
    seconds, basis = timing.total(plan.times)
    like = ", ".join(dict.fromkeys(time.like for time in plan.times if time.like))
    note = f" (~ estimated from published figures of {like})" if like else ""
    table.caption = f"in all {'~' if basis == 'estimate' else ''}{grid.duration(seconds)}{note}"
    table.caption_justify = "left"
    return table


def _cluster(shared: ClusterPlan) -> str:
    """How the cluster's cards share the work of many such clips, in a few lines."""
    from wan2_i2v import grid

    groups = ", ".join(f"{' and '.join(group.pools)} on {group.cards}" for group in shared.groups)
    told = [
        f"cluster: {shared.cards} cards ({shared.device.label}) on {shared.nodes} machines; many such clips: {groups}, "
        f"checks on {shared.checkers} processors; about {shared.clips_per_hour:g} an hour"
    ]
    if shared.sequence is not None:
        told.append(
            f"one clip on {shared.sequence.cards} cards of a machine at once (diffusers' context parallel) would take "
            f"{grid.duration(shared.sequence.seconds)} at best, in place of {grid.duration(shared.sequence.alone)}; this version "
            "runs each clip on one card at a time"
        )
    return "\n".join(told)


def _held(peak: StagePeak) -> str:
    """How a stage's weights are held."""
    if peak.residency == "resident":
        return "resident" if peak.strips == 1 else f"resident, the picture in {peak.strips} strips"
    kept = f", {peak.resident_blocks} blocks resident" if peak.resident_blocks else ""
    return f"streamed from {'RAM' if peak.streams_from == 'ram' else 'disk'}{kept}"
