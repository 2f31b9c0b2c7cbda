"""The samplers against their sources, and their memory across an interruption."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from wan2_i2v import schedule
from wan2_i2v.stages import samplers
from wan2_i2v.stages.samplers import Noise, SamplerState, Step

SHAPE = (1, 16, 2, 4, 4)


def velocity(latents: torch.Tensor, sigma: float) -> torch.Tensor:
    """A smooth stand-in for the transformer, nonlinear in both arguments."""
    return torch.tanh(latents * (1 + sigma)) - 0.3 * sigma


def run(name: str, sigmas: tuple[float, ...], *, reload: bool = False) -> torch.Tensor:
    state = SamplerState(Noise(3).initial(SHAPE) * sigmas[0])
    for index in range(len(sigmas) - 1):
        if reload:
            state = SamplerState(state.latents.clone(), {key: value.clone() for key, value in state.history.items()})
        step = Step(sigmas, index, index, Noise(3))
        state = samplers.SAMPLERS[name](state, velocity(state.latents, sigmas[index]), step)
    return state.latents


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 40])
def test_unipc_step_by_step_equals_the_scheduler_run_through(steps):
    sigmas = schedule.sigmas("linear", 5.0, steps)
    whole = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0)
    whole.set_timesteps(sigmas=np.array(sigmas[:-1]))
    expected = Noise(3).initial(SHAPE) * sigmas[0]
    for index, timestep in enumerate(whole.timesteps):
        output = velocity(expected, sigmas[index])
        expected = whole.step(output, timestep, expected, return_dict=False)[0]
    assert torch.equal(run("unipc", sigmas, reload=True), expected)


def test_euler_equals_diffusers_flow_match_euler():
    sigmas = schedule.sigmas("simple", 5.0, 4)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=np.array(sigmas[:-1]))
    expected = Noise(3).initial(SHAPE)
    for index, timestep in enumerate(scheduler.timesteps):
        expected = scheduler.step(velocity(expected, sigmas[index]), timestep, expected, return_dict=False)[0]
    assert torch.allclose(run("euler", sigmas), expected, atol=1e-5)


def test_lcm_ends_on_the_clean_estimate():
    state = SamplerState(torch.full(SHAPE, 2.0))
    after = samplers.lcm(state, torch.full(SHAPE, 1.5), Step((0.5, 0.0), 0, 0, Noise(0)))
    assert torch.equal(after.latents, torch.full(SHAPE, 2.0 - 0.5 * 1.5))


def test_lcm_noises_afresh_to_the_next_sigma():
    state = SamplerState(torch.full(SHAPE, 2.0))
    after = samplers.lcm(state, torch.full(SHAPE, 1.0), Step((1.0, 0.25, 0.0), 0, 0, Noise(5)))
    assert torch.allclose(after.latents, 0.25 * Noise(5).draw(SHAPE, 0) + 0.75 * 1.0)


def test_noise_is_a_function_of_seed_and_place():
    noise = Noise(11)
    generator = torch.Generator().manual_seed(11)
    drawn = [torch.randn(SHAPE, generator=generator) for _ in range(3)]
    assert all(torch.equal(noise.draw(SHAPE, place), drawn[place]) for place in (2, 0, 1))
    assert not torch.equal(noise.draw(SHAPE, 0), Noise(12).draw(SHAPE, 0))
