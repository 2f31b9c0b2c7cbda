"""Parity with the real ComfyUI, through the denoise stages as the pipeline runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from PIL import Image

from plans import plan, row
from wan2_i2v.events import ignore
from wan2_i2v.stages import denoise, tensors
from wan2_i2v.stages.base import Context, Job
from wan2_i2v.workspace import Workspace

FRAMES, HEIGHT, WIDTH = 3, 8, 12

RUNS = [
    ("lcm_beta_8", {"recipe": "rapid"}),
    ("euler_simple_5", {"recipe": "lightx2v"}),
]


def statistics() -> tuple[torch.Tensor, torch.Tensor]:
    """The Wan 2.1 VAE's latent mean and standard deviation, diffusers' defaults."""
    vae = AutoencoderKLWan(base_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    mean, std = torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)
    return mean.view(1, 16, 1, 1, 1), std.view(1, 16, 1, 1, 1)


@pytest.mark.parametrize(("name", "request_fields"), RUNS)
def test_two_experts_match_comfyui(name, request_fields, golden, tiny_wan, tiny_experts: Path, tmp_path: Path):
    reference = np.load(golden / "comfyui_two_expert.npz")
    job_plan = plan(row(tiny_experts), width=WIDTH * 8, height=HEIGHT * 8, num_frames=9, seed=101, **request_fields)
    job = Job(job_plan, Workspace(tmp_path / "job"))
    job.workspace.create(None, job_plan)
    mean, std = statistics()
    write_inputs(job, tiny_wan, (torch.from_numpy(tiny_wan.image_latent(FRAMES, HEIGHT, WIDTH)) - mean) / std)

    assert np.allclose(job_plan.sigmas, reference[f"{name}.sigmas"], atol=1e-6)
    high, low = run_stage(job, "high"), run_stage(job, "low")

    split = job_plan.sigmas[2]
    # ComfyUI's leftover-noise hand-over stores x / (1 - sigma), both in the VAE's scale.
    after_high = torch.from_numpy(reference[f"{name}.after_high"])
    final = torch.from_numpy(reference[f"{name}.final"])
    assert (high / (1 - split) * std + mean - after_high).abs().max() < 1e-3
    assert (low * std + mean - final).abs().max() < 1e-3
    assert (low - high).abs().max() > 0.1


def write_inputs(job: Job, tiny_wan, image_latent: torch.Tensor) -> None:
    """The artifacts that the text and image stages would leave."""
    mask = torch.zeros(1, 4, FRAMES, HEIGHT, WIDTH)
    mask[:, :, 0] = 1
    Image.new("RGB", (8 * WIDTH, 8 * HEIGHT)).save(job.workspace.prepared)
    tensors.save(job.workspace.text, {"prompt_embeds": torch.from_numpy(tiny_wan.text_embeds())})
    tensors.save(job.workspace.conditioning, {"latent_condition": torch.cat([mask, image_latent], dim=1)})


def run_stage(job: Job, expert: str) -> torch.Tensor:
    stage = next(stage for stage in denoise.STAGES if stage.name == f"denoise {expert}")
    with stage.model(job.plan) as model:
        stage.run(model, job, Context(ignore, lambda: False))
    assert stage.done(job)
    return tensors.load(job.workspace.latents)["latents"]
