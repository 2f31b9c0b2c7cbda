"""The user's pictures → the pictures as the model sees them. No model.

Comes in: the files that the plan names. Goes out: `prepared.png`, RGB, of the video's size; with a last picture
`prepared-last.png` too.
"""

from __future__ import annotations

from pathlib import Path

from wan2_i2v import pictures
from wan2_i2v.errors import InvalidImage
from wan2_i2v.plan import ImageFacts, JobPlan
from wan2_i2v.stages.base import Context, Job, Stage, no_model, one_step
from wan2_i2v.workspace import replacing


def _run(model: None, job: Job, context: Context) -> None:
    _prepare(job.plan.image, job.plan, job.workspace.prepared)
    if job.plan.last_image is not None:
        _prepare(job.plan.last_image, job.plan, job.workspace.prepared_last)
    context.progress(job, STAGE.name, 1, 1)


def _prepare(image: ImageFacts, plan: JobPlan, target: Path) -> None:
    path = Path(image.path)
    if pictures.sha256(path) != image.sha256:
        raise InvalidImage(
            "image", str(path), "the very file that was planned", "It was changed since: plan the job again."
        )
    box = plan.crop_box if image is plan.image else None
    prepared = pictures.prepare(path, plan.width, plan.height, plan.crop, plan.background, box)
    with replacing(target) as temporary:
        prepared.save(temporary, format="PNG")


def _done(job: Job) -> bool:
    last = job.plan.last_image is None or job.workspace.prepared_last.exists()
    return last and job.workspace.prepared.exists()


def _shares(plan: JobPlan) -> None:
    """There is nothing to share: all jobs are one group."""


STAGE = Stage(
    name="preprocess",
    run=_run,
    done=_done,
    steps=one_step,
    model=no_model,
    shares=_shares,
)
