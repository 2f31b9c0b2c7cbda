"""What a plan tells its user in sentences: which guidance acts and what it costs, and warnings. A leaf without torch.

Comes in: a request and the plan made of it. Goes out: text. Imported by `plan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wan2_i2v import geometry
from wan2_i2v.request import GenerateRequest, is_guided
from wan2_i2v.rows import ModelRow

if TYPE_CHECKING:
    from wan2_i2v.plan import ImageFacts, JobPlan, NagPlan, StepPlan

TRAINED_FPS = 16


def acting(step: StepPlan, nag: NagPlan | None) -> str:
    """Which guidance acts in one step: `CFG 3.5`, `NAG` or `none`."""
    if is_guided(step.guidance_scale):
        return f"CFG {step.guidance_scale:g}"
    return "none" if nag is None else "NAG"


def guidance(negative: str, steps: tuple[StepPlan, ...], nag: NagPlan | None, nag_cost: float) -> str:
    """One sentence: which guidance acts, in which steps, and what it costs.

    `nag_cost` is by how much of its time NAG makes a model call longer.
    """
    scales = dict.fromkeys(step.guidance_scale for step in steps if is_guided(step.guidance_scale))
    told = []
    for scale in scales:
        mine = [number for number, step in enumerate(steps, start=1) if step.guidance_scale == scale]
        told.append(
            f"CFG {scale:g} in {_numbers(mine)} of {len(steps)}: one more model call each, +{len(mine) / len(steps):.0%} "
            "denoising time"
        )
    if nag is not None:
        mine = [number for number, step in enumerate(steps, start=1) if not is_guided(step.guidance_scale)]
        told.append(
            f"NAG (scale {nag.scale:g}, tau {nag.tau:g}, alpha {nag.alpha:g}) in {_numbers(mine)} of {len(steps)}: one more "
            f"cross-attention per block, +{nag_cost * len(mine) / len(steps):.1%} denoising time"
        )
    if told:
        return "; ".join(told)
    return "none: CFG is off (scale 1), one model call per step" + (
        "; the negative prompt is not evaluated" if negative else ""
    )


def _numbers(steps: list[int]) -> str:
    """`step 1`, `steps 1–3, 5`."""
    runs: list[list[int]] = []
    for number in steps:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    text = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
    return f"{'step' if len(steps) == 1 else 'steps'} {text}"


def warnings(request: GenerateRequest, plan: JobPlan, model: ModelRow) -> tuple[str, ...]:
    loras = [(lora.unmatched > 0 or ". " in lora.about, f"LoRA on {lora.expert}: {lora.about}") for lora in plan.loras]
    told = (*_picture_warnings(request, plan), *_clip_warnings(request, plan, model), *loras)
    return tuple(text for wanted, text in told if wanted)


def _picture_warnings(request: GenerateRequest, plan: JobPlan) -> list[tuple[bool, str]]:
    target = (plan.width, plan.height)
    asked = (request.width or plan.width, request.height or plan.height)
    snapped = f"size {asked[0]}×{asked[1]} snapped to {plan.width}×{plan.height} (multiples of 16)"
    last = [] if plan.last_image is None else _of_picture("the last picture", plan.last_image, plan)
    return [(asked != target, snapped), *_of_picture("the picture", plan.image, plan), *last]


def _of_picture(which: str, image: ImageFacts, plan: JobPlan) -> list[tuple[bool, str]]:
    """Warnings of one picture, named `which`."""
    source, target = (image.width, image.height), (plan.width, plan.height)
    loss, scale = geometry.crop_loss(source, target), geometry.upscale_factor(source, target)
    size = f"{plan.width}×{plan.height}"
    return [
        (
            round(loss, 3) > round(1 / 3, 3),
            f"cropping to {size} cuts {loss:.0%} of {which} away; choose a closer aspect",
        ),
        (scale > 1, f"{which} is {image.width}×{image.height} and is enlarged {scale:.2f}× to {size}"),
        (image.has_alpha, f"transparent pixels of {which} are put on {plan.background}"),
        (image.animated_frames > 1, f"{which} is animated: the first of {image.animated_frames} frames is used"),
    ]


def _clip_warnings(request: GenerateRequest, plan: JobPlan, model: ModelRow) -> list[tuple[bool, str]]:
    asked = request.num_inference_steps
    return [
        (
            plan.num_frames != plan.model_frames,
            f"the model makes {plan.model_frames} frames (4n+1); the file gets exactly {plan.num_frames}",
        ),
        (
            plan.fps != TRAINED_FPS and model.trained_fps == TRAINED_FPS,
            f"the model was trained at {TRAINED_FPS} fps; at {plan.fps:g} fps motion plays "
            f"{plan.fps / TRAINED_FPS:.2g}× as fast; --fps 16 gives natural speed",
        ),
        (
            plan.model_frames > model.trained_frames,
            f"{plan.model_frames} frames are more than the {model.trained_frames} that the model was trained for; "
            "the clip may loop back to its start",
        ),
        (
            asked is not None and asked != len(plan.steps),
            f"the {plan.scheduler} schedule drops repeats: {len(plan.steps)} steps instead of {asked}",
        ),
        (
            bool(plan.negative_prompt.strip()) and not plan.uses_negative_prompt,
            "the negative prompt is not evaluated at CFG 1 without NAG; leave NAG on, or raise guidance_scale_high above 1 "
            "(doubles those steps' cost)",
        ),
        (
            any(step.plain for step in plan.steps) and not plan.loras,
            f"recipe {plan.recipe} is for weights with distillation LoRAs (--lora), which its first steps leave out; without "
            "any, all steps run on the same weights",
        ),
        (
            model.boundary_ratio is None and request.guidance_scale_low is not None,
            f"guidance_scale_low has no effect: {model.name} is one merged expert, which follows guidance_scale_high",
        ),
        (
            plan.boundary_ratio not in (None, 0, 1) and len({step.expert for step in plan.steps}) == 1,
            f"all steps fall on one side of the boundary {plan.boundary_ratio}: only the {plan.steps[0].expert} expert "
            "works",
        ),
    ]
