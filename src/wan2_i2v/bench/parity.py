"""One small clip on two devices, stage by stage: how far apart are their results?

Comes in: a checkpoint's row and a device. Goes out: rows with differences from the CPU in float32. The stages' own
functions run, on the components that jobs run on. Imported by `bench.suite`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from wan2_i2v.bench.report import Row
from wan2_i2v.devices import DeviceFacts
from wan2_i2v.models import causal_vae, components
from wan2_i2v.plan import ImageFacts, JobPlan, plan_job
from wan2_i2v.request import GenerateRequest
from wan2_i2v.rows import ModelRow
from wan2_i2v.stages import denoise, image, text
from wan2_i2v.stages.base import source_of

WIDTH, HEIGHT, FRAMES, STEPS = 96, 64, 9, 4
PROMPT = "The camera pans slowly to the left over the scene."
FACTS = ImageFacts(
    path="bench.png", sha256="", width=WIDTH, height=HEIGHT, mode="RGB", format="PNG", has_alpha=False,
    animated_frames=1, rotated=False,
)  # fmt: skip


def differences(row: ModelRow, here: DeviceFacts, device: DeviceFacts) -> Iterator[Row]:
    """Rows for `device` in float32 and in its own dtype, against `here`, a CPU in float32."""
    expected = results(row, replace(here, dtype="float32"))
    for dtype in dict.fromkeys(("float32", device.dtype)):
        found = results(row, replace(device, dtype=dtype))
        for name, wanted in expected.items():
            apart = (found[name] - wanted).abs()
            values = {"largest difference": float(apart.max()), "mean difference": float(apart.mean())}
            yield Row(what=f"{name}, {dtype}", values={**values, "mean size": float(wanted.abs().mean())})


def results(row: ModelRow, device: DeviceFacts) -> dict[str, torch.Tensor]:
    """What each stage makes of a drawn picture, in float32 on the CPU."""
    plan, found = _plan(row, device), dict[str, torch.Tensor]()
    with components.text_encoder(source_of(plan, "text")) as encoder:
        found["text"] = text.encode_prompt(encoder, PROMPT)
    with components.vae(source_of(plan), "encoder") as vae:
        given = causal_vae.Given(_picture().to(vae.device, vae.dtype))
        found["conditioning"] = image.condition(vae, given, plan.model_frames)
    state = denoise.start(plan)
    for taken in dict.fromkeys(step.taken_in for step in plan.steps):
        with components.transformer(source_of(plan, taken.stage), taken.expert) as model:
            state = replace(state, latents=state.latents.to(model.device))
            velocity = denoise.predictor(model, denoise.Conditioning(found["text"], None, found["conditioning"]))
            for _, after in denoise.denoise(velocity, state, plan, plan.span(taken)):
                state = after
        found[f"latents, {taken.expert} expert"] = state.latents
    with components.vae(source_of(plan), "decoder") as vae:
        latents = state.latents.to(vae.device, vae.dtype)
        found["frames"] = torch.cat(list(causal_vae.decode_stream(vae, latents)), dim=2)
    return {name: tensor.float().cpu() for name, tensor in found.items()}


def _plan(row: ModelRow, device: DeviceFacts) -> JobPlan:
    asked = GenerateRequest(
        image=FACTS.path, prompt=PROMPT, model=row.name, width=WIDTH, height=HEIGHT, num_frames=FRAMES, seed=0,
        recipe="lightx2v", num_inference_steps=STEPS,
    )  # fmt: skip
    return plan_job(asked, FACTS, row, device, seed=0)


def _picture() -> torch.Tensor:
    """Two gradients and a third in between, (1, 3, height, width) in [−1, 1]."""
    across = torch.linspace(-1, 1, WIDTH).expand(HEIGHT, WIDTH)
    down = torch.linspace(-1, 1, HEIGHT).unsqueeze(1).expand(HEIGHT, WIDTH)
    return torch.stack([across, down, across * down]).unsqueeze(0)
