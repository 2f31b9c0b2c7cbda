"""Noise → latents: the steps of one pass (an expert, with LoRAs or plain), with one load of that expert for all jobs.

Comes in: text embeddings, image conditioning, and the latents after the step before. Goes out: `latents.safetensors`
after every step, with the number of finished steps in its metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from wan2_i2v.errors import NumericalError
from wan2_i2v.events import Preview
from wan2_i2v.models import components, nag
from wan2_i2v.plan import JobPlan, StepPlan
from wan2_i2v.request import is_guided
from wan2_i2v.schedule import PASSES, Pass
from wan2_i2v.stages import preview, samplers, tensors
from wan2_i2v.stages.base import Context, Job, Stage, source_of
from wan2_i2v.stages.samplers import Noise, SamplerState

Velocity = preview.Velocity


@dataclass(frozen=True)
class Conditioning:
    """What the transformer is told: embeddings (1, 512, text_dim), latent_condition (1, 20, frames, height, width)."""

    prompt_embeds: torch.Tensor
    negative_prompt_embeds: torch.Tensor | None
    latent_condition: torch.Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Conditioning:
        negative = self.negative_prompt_embeds
        return Conditioning(
            self.prompt_embeds.to(device, dtype),
            None if negative is None else negative.to(device, dtype),
            self.latent_condition.to(device, dtype),
        )


def predictor(transformer: Any, given: Conditioning, switch: nag.Switch | None = None) -> Velocity:
    """The transformer as a function (latents, step) → velocity, float32, with the step's own guidance.

    CFG: v = v_negative + scale·(v_prompt − v_negative). At scale 1 it is off, and `switch` turns NAG on.
    """

    def call(latents: torch.Tensor, step: StepPlan, embeds: torch.Tensor) -> torch.Tensor:
        model_input = torch.cat([latents.to(given.latent_condition.dtype), given.latent_condition], dim=1)
        timestep = torch.tensor([step.timestep], dtype=torch.float32, device=latents.device)
        return torch.as_tensor(transformer(model_input, timestep, embeds, return_dict=False)[0]).float()

    def velocity(latents: torch.Tensor, step: StepPlan) -> torch.Tensor:
        if switch is not None:
            switch.on = not is_guided(step.guidance_scale)
        prompted = call(latents, step, given.prompt_embeds)
        if not is_guided(step.guidance_scale) or given.negative_prompt_embeds is None:
            return prompted
        negative = call(latents, step, given.negative_prompt_embeds)
        return negative + step.guidance_scale * (prompted - negative)

    return velocity


def denoise(
    velocity: Velocity, state: SamplerState, plan: JobPlan, span: range, first: int | None = None
) -> Iterator[tuple[int, SamplerState]]:
    """The steps of `span` from `first` on: yields (finished steps, state) after each.

    `span` is one pass's whole run, also when it is entered in the middle, since step noise counts from its start.
    Raises NumericalError when a step gives NaN or infinity.
    """
    sample = samplers.SAMPLERS[plan.sampler]
    for index in range(span.start if first is None else first, span.stop):
        step = plan.steps[index]
        with torch.inference_mode():
            place = samplers.Step(plan.sigmas, index, index - span.start, Noise(plan.seed))
            state = sample(state, velocity(state.latents, step), place)
            if not bool(torch.isfinite(state.latents).all()):
                raise NumericalError(
                    f"step {index + 1} ({step.expert} expert, σ {step.sigma:.4f}) gave NaN or infinity in {plan.dtype}; "
                    "the weights may be damaged or the dtype too narrow."
                )
        yield index + 1, state


def start(plan: JobPlan) -> SamplerState:
    """Pure noise at the first sigma, (1, 16, frames, height, width) float32 on the CPU."""
    return SamplerState(Noise(plan.seed).initial(plan.latent.tensor) * plan.sigmas[0])


def _load_state(job: Job, device: torch.device) -> SamplerState:
    if not job.workspace.latents.exists():
        state = start(job.plan)
        return SamplerState(state.latents.to(device))
    stored = tensors.load(job.workspace.latents)
    latents = stored.pop("latents").to(device)
    return SamplerState(latents, {name: tensor.to(device) for name, tensor in stored.items()})


def finished_steps(job: Job) -> int:
    """How many denoise steps are on disk."""
    path = job.workspace.latents
    return int(tensors.metadata(path)["step"]) if path.exists() else 0


def _conditioning(job: Job) -> Conditioning:
    text = tensors.load(job.workspace.text)
    image = tensors.load(job.workspace.conditioning)
    return Conditioning(text["prompt_embeds"], text.get("negative_prompt_embeds"), image["latent_condition"])


def _run(transformer: Any, job: Job, context: Context, taken: Pass) -> None:
    span = job.plan.span(taken)
    known = _conditioning(job)
    given = known.to(transformer.device, transformer.dtype)
    state = _load_state(job, transformer.device)
    first = max(span.start, finished_steps(job))
    context.reached[job.plan.job_id, taken.stage] = first - span.start
    with nag.applied(transformer, job.plan.nag, given.negative_prompt_embeds) as switch:
        with Image.open(job.workspace.prepared) as picture:
            look = preview.Look(predictor(transformer, given, switch), known.latent_condition, picture)
        for done, after in denoise(look, state, job.plan, span, first):
            finished = {"latents": after.latents, **after.history}
            # A power cut may cost the steps since the system last wrote names down; waiting for it at each step costs more.
            tensors.save(job.workspace.latents, finished, {"step": str(done)}, flush_name=False)
            context.progress(job, taken.stage, done - span.start, len(span))
            context.emit(Preview(job.plan.job_id, done, look.png()))
            context.checkpoint(job)


def _stage(taken: Pass) -> Stage:
    return Stage(
        name=taken.stage,
        run=lambda model, job, context: _run(model, job, context, taken),
        done=lambda job: finished_steps(job) >= job.plan.span(taken).stop,
        steps=lambda plan: len(plan.span(taken)),
        model=lambda plan: components.transformer(source_of(plan, taken.stage), taken.expert),
        shares=lambda plan: source_of(plan, taken.stage),
    )


STAGES: tuple[Stage, ...] = tuple(map(_stage, PASSES))
