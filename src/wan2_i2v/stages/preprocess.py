"""The user's picture → the picture as the model sees it. No model.

Comes in: the file that the plan names. Goes out: `prepared.png`, RGB, of the video's size.
"""

from __future__ import annotations

from pathlib import Path

from wan2_i2v import pictures
from wan2_i2v.errors import InvalidImage
from wan2_i2v.plan import JobPlan
from wan2_i2v.stages.base import Context, Job, Stage, no_model, one_step
from wan2_i2v.workspace import replacing


def _run(model: None, job: Job, context: Context) -> None:
    plan, path = job.plan, Path(job.plan.image.path)
    if pictures.sha256(path) != plan.image.sha256:
        raise InvalidImage(
            "image", str(path), "the very file that was planned", "It was changed since: plan the job again."
        )
    prepared = pictures.prepare(path, plan.width, plan.height, plan.crop, plan.background, plan.crop_box)
    with replacing(job.workspace.prepared) as temporary:
        prepared.save(temporary, format="PNG")
    context.progress(job, STAGE.name, 1, 1)


def _shares(plan: JobPlan) -> None:
    """There is nothing to share: all jobs are one group."""


STAGE = Stage(
    name="preprocess",
    run=_run,
    done=lambda job: job.workspace.prepared.exists(),
    steps=one_step,
    model=no_model,
    shares=_shares,
)
