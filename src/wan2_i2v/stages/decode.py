"""Latents → frames → file, as one stream, with one load of the VAE decoder for all jobs.

Comes in: the finished latents. Goes out: the clip in the job's directory, exactly `num_frames` long; the surplus of
the model's 4n+1 frames is cut. No more than one decoded chunk is held at a time; where the plan has the picture decoded
in strips, all of them wait on disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from wan2_i2v import places
from wan2_i2v.geometry import VAE_SCALE_SPATIAL
from wan2_i2v.media.writer import write_clip
from wan2_i2v.models import causal_vae, components, strips
from wan2_i2v.plan import JobPlan
from wan2_i2v.stages import tensors
from wan2_i2v.stages.base import Context, Job, Stage, source_of
from wan2_i2v.workspace import sweep

Frames = npt.NDArray[np.uint8]


def to_pixels(chunk: torch.Tensor) -> npt.NDArray[np.uint8]:
    """(1, 3, k, height, width) in [−1, 1] → (k, height, width, 3) in 0…255."""
    scaled = ((chunk[0].float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(scaled.permute(1, 2, 3, 0).cpu().numpy())


def _frames(vae: Any, latents: torch.Tensor, job: Job, context: Context) -> Iterator[Frames]:
    for done, chunk in enumerate(causal_vae.decode_stream(vae, latents), start=1):
        context.checkpoint(job)
        yield from to_pixels(chunk)
        context.progress(job, STAGE.name, done, latents.shape[2])


def _frames_from_strips(vae: Any, latents: torch.Tensor, job: Job, context: Context) -> Iterator[Frames]:
    """The same frames, each strip of the picture decoded on its own; they meet in a file, which has no name."""
    plan, count = job.plan, latents.shape[2]
    dim, parts = strips.cut(latents.shape, plan.strips(STAGE.name))
    shape = (plan.model_frames, plan.height, plan.width, 3)
    with tempfile.TemporaryFile(dir=job.workspace.root) as file:
        # Written, not only sized: a disk that is full says so here, where it is an error and no signal.
        for _ in range(plan.model_frames):
            file.write(bytes(plan.height * plan.width * 3))
        file.flush()
        clip = np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
        for number, part in enumerate(parts):
            pixels, first = slice(part.start * VAE_SCALE_SPATIAL, part.stop * VAE_SCALE_SPATIAL), 0
            for done, chunk in enumerate(strips.decode_strip(vae, latents, dim, part), start=1):
                context.checkpoint(job)
                rows = to_pixels(chunk)
                place = clip[first : first + len(rows)]
                (place[:, pixels] if dim == strips.HEIGHT else place[:, :, pixels])[:] = rows
                first += len(rows)
                context.progress(job, STAGE.name, (number * count + done) // len(parts), count)
        yield from clip


def _run(vae: Any, job: Job, context: Context) -> None:
    plan = job.plan
    latents = tensors.load(job.workspace.latents)["latents"].to(vae.device, vae.dtype)
    sweep(places.clip_path(job.workspace, plan))
    decoded = _frames if plan.strips(STAGE.name) == 1 else _frames_from_strips
    frames = islice(decoded(vae, latents, job, context), plan.num_frames)
    write_clip(places.clip_path(job.workspace, plan), frames, places.clip_format(plan))


def _steps(plan: JobPlan) -> int:
    return plan.latent.frames


STAGE = Stage(
    name="decode",
    run=_run,
    done=lambda job: places.clip_path(job.workspace, job.plan).exists() or places.finished(job.workspace),
    steps=_steps,
    model=lambda plan: components.vae(source_of(plan), "decoder"),
    shares=lambda plan: (source_of(plan), "decoder"),
)
