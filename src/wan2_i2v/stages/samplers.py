"""One denoise step of each sampler: a frozen state in, a new one out. Imported by `denoise`.

With x_σ = σ·noise + (1 − σ)·x0 and v = noise − x0, the clean estimate is x0 = x − σ·v. Euler and lcm are ComfyUI's
(`comfy/k_diffusion/sampling.py`); unipc is diffusers' `UniPCMultistepScheduler` on our sigmas, its memory carried in
the state so that a run can stop and go on between any two steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class SamplerState:
    """`latents` (1, 16, frames, height, width) float32; `history` holds what a multistep sampler remembers."""

    latents: torch.Tensor
    history: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Noise:
    """Where random numbers come from: CPU generators, so that every device draws the same."""

    seed: int

    def initial(self, shape: Sequence[int]) -> torch.Tensor:
        """Standard normal start noise, float32."""
        return self.draw(shape, 0)

    def draw(self, shape: Sequence[int], index: int) -> torch.Tensor:
        """The `index`-th tensor of a generator seeded afresh.

        ComfyUI seeds one at the start of each expert's run, so the noise of a step is a function of the seed and of
        the step's place in that run, and a resumed run draws the same.
        """
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(index):
            torch.randn(tuple(shape), generator=generator)
        return torch.randn(tuple(shape), generator=generator)


@dataclass(frozen=True)
class Step:
    """One step: from sigmas[index] to sigmas[index + 1]; `place` is its index within the expert's run."""

    sigmas: tuple[float, ...]
    index: int
    place: int
    noise: Noise


def euler(state: SamplerState, velocity: torch.Tensor, step: Step) -> SamplerState:
    """x + (σ' − σ)·v."""
    sigma, following = step.sigmas[step.index : step.index + 2]
    return SamplerState(state.latents + (following - sigma) * velocity)


def lcm(state: SamplerState, velocity: torch.Tensor, step: Step) -> SamplerState:
    """The clean estimate, noised afresh to σ'; the estimate itself at the end."""
    sigma, following = step.sigmas[step.index : step.index + 2]
    clean = state.latents - sigma * velocity
    if following == 0:
        return SamplerState(clean)
    noise = step.noise.draw(clean.shape, step.place).to(clean.device)
    return SamplerState(following * noise + (1 - following) * clean)


def unipc(state: SamplerState, velocity: torch.Tensor, step: Step) -> SamplerState:
    """UniPC of order 2 (arXiv 2302.04867), its multistep memory restored from the state before and stored after."""
    scheduler = _scheduler(step.sigmas, state.latents.device)
    _restore(scheduler, state.history, step.index)
    latents = scheduler.step(velocity, scheduler.timesteps[step.index], state.latents, return_dict=False)[0]
    return SamplerState(latents, _remember(scheduler))


SAMPLERS: dict[str, Callable[[SamplerState, torch.Tensor, Step], SamplerState]] = {
    "euler": euler,
    "lcm": lcm,
    "unipc": unipc,
}


def _scheduler(sigmas: tuple[float, ...], device: torch.device) -> Any:
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0, solver_order=2
    )
    scheduler.set_timesteps(sigmas=np.array(sigmas[:-1]), device=device)
    return scheduler


def _restore(scheduler: Any, history: Mapping[str, torch.Tensor], index: int) -> None:
    scheduler._step_index = index
    if not history:
        return
    scheduler.last_sample = history["last_sample"]
    scheduler.model_outputs = [history.get("model_output_0"), history["model_output_1"]]
    scheduler.timestep_list = [scheduler.timesteps[index - 2] if index > 1 else None, scheduler.timesteps[index - 1]]
    scheduler.lower_order_nums = min(index, scheduler.config.solver_order)
    scheduler.this_order = int(history["order"])


def _remember(scheduler: Any) -> dict[str, torch.Tensor]:
    older, newest = scheduler.model_outputs
    history = {"last_sample": scheduler.last_sample, "model_output_1": newest}
    if older is not None:
        history["model_output_0"] = older
    return history | {"order": torch.tensor(scheduler.this_order)}
