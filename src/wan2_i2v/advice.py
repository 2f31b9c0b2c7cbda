"""What a plan warns of because of what is seen in the picture and said in the prompts, and the automatic crop.

A leaf, imported by the plan. Every sentence says what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wan2_i2v import geometry
from wan2_i2v.eye import cropping
from wan2_i2v.eye.findings import PictureReport
from wan2_i2v.prompting.lint import lint

if TYPE_CHECKING:
    from wan2_i2v.plan import ImageFacts, JobPlan


@dataclass(frozen=True)
class Sight:
    """What only files can tell a plan: what is in the picture, a counter of a text's tokens, facts of the last picture."""

    picture: PictureReport | None = None
    count: Callable[[str], int] | None = None
    last_image: ImageFacts | None = None


NOTHING_SEEN = Sight()

KEPT = 0.95
"""Share of the faces or the subject that a crop should keep."""
ABOUT_PICTURE = ("picture", "prompt")
"""What `analyze` advises on beside what the plan decides itself."""


def automatic_crop(
    seen: PictureReport | None, source: tuple[int, int], target: tuple[int, int]
) -> tuple[float, float, float, float]:
    """`--crop auto`: the box, in pixels of a source (width, height), that keeps the faces, else the subject."""
    faces = [] if seen is None else [_floats(face.box) for face in seen.faces]
    subject = None if seen is None else _floats(seen.subject)
    left, top, right, bottom = cropping.crop_box(source, target, faces, subject)
    return round(left, 2), round(top, 2), round(right, 2), round(bottom, 2)


def of_picture(plan: JobPlan) -> tuple[str, ...]:
    """Warnings of what is in the picture: what the crop loses, mouths that nothing keeps still, poor quality."""
    seen = plan.analysis
    if seen is None:
        return ()
    told = [advice.reason for advice in seen.advice if advice.urgency == "warning" and advice.about in ABOUT_PICTURE]
    if seen.mouth_risk == "high" and not plan.allow_speech and not plan.uses_negative_prompt:
        told.append(
            "a mouth is large enough to be seen moving, and no guidance evaluates a negative prompt; leave NAG on, or "
            "describe closed lips in the prompt"
        )
    return (*_crop(plan, seen), *told)


def kept(plan: JobPlan) -> tuple[str, float] | None:
    """What the crop should keep (the faces or the subject) and the share of it that it does; None when not looked at."""
    seen = plan.analysis
    if seen is None:
        return None
    what, box = _focus(seen)
    source, target = (seen.width, seen.height), (plan.width, plan.height)
    return what, cropping.kept_share(box, plan.crop_box or geometry.crop_box(source, target, plan.crop))


def _crop(plan: JobPlan, seen: PictureReport) -> tuple[str, ...]:
    """The chosen crop cuts into the faces, or into a subject that is surely one, and another one does not."""
    told = kept(plan)
    if told is None or told[1] >= KEPT or not (seen.faces or seen.subject_certain) or plan.crop == "auto":
        return ()
    what, share = told
    source, target = (seen.width, seen.height), (plan.width, plan.height)
    best = cropping.kept_share(_focus(seen)[1], automatic_crop(seen, source, target))
    if best < share + 0.05:
        return (f"at {target[0]}×{target[1]} the crop keeps {share:.0%} of {what}; choose a closer aspect",)
    return (f"crop {plan.crop} keeps {share:.0%} of {what}; --crop auto keeps {best:.0%}",)


def _focus(seen: PictureReport) -> tuple[str, cropping.Box]:
    if seen.faces:
        return "the faces", cropping.union([_floats(face.box) for face in seen.faces])
    return "the subject", _floats(seen.subject)


def _floats(box: tuple[int, int, int, int]) -> cropping.Box:
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def of_texts(plan: JobPlan, count: Callable[[str], int] | None) -> tuple[str, ...]:
    """The linter's findings. Whether the negative prompt is evaluated, the plan says itself."""
    found = lint(plan.prompt, plan.negative_prompt, allow_speech=plan.allow_speech, count=count)
    return tuple(f"{one.field.replace('_', ' ')}: {one.message}. {one.instead}" for one in found)
