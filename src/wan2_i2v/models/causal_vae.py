"""The causal VAE as a stream: frames in, latent frames out, and back, one chunk at a time.

`AutoencoderKLWan` works on one frame first and then on four at a time, with a two-frame memory before each causal
convolution; its own `encode` and `decode` glue all chunks together. These functions yield them, so that memory does not
grow with the number of frames. Same arithmetic, bit-equal results. Imported by stages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, patchify, unpatchify

from wan2_i2v.geometry import LATENT_CHANNELS, VAE_SCALE_TEMPORAL


def _memory(coder: torch.nn.Module) -> list[Any]:
    """An empty memory slot per causal convolution."""
    return [None] * sum(isinstance(module, WanCausalConv3d) for module in coder.modules())


def _statistics(vae: Any, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Per-channel mean and standard deviation of the latents, (1, 16, 1, 1, 1)."""
    mean, std = (
        torch.tensor(values, dtype=like.dtype, device=like.device).view(1, LATENT_CHANNELS, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, std


def normalise(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """From the VAE's scale to the transformer's: (latents − mean) / std per channel."""
    mean, std = _statistics(vae, latents)
    return (latents - mean) / std


def denormalise(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Inverse of `normalise`."""
    mean, std = _statistics(vae, latents)
    return latents * std + mean


@torch.inference_mode()
def encode_canvas(vae: Any, image: torch.Tensor, frames: int) -> torch.Tensor:
    """Mean latents of a clip that shows `image` in frame 0 and mid-grey (0 in [−1, 1]) after.

    `image`: (1, 3, height, width) in [−1, 1] on the VAE's device and dtype; `frames` is 4n+1. Returns (1, 16, n+1,
    height / 8, width / 8), not normalised.
    """
    memory = _memory(vae.encoder)
    grey = torch.zeros_like(image).unsqueeze(2).expand(-1, -1, VAE_SCALE_TEMPORAL, -1, -1)
    chunks = [_encode_chunk(vae, image.unsqueeze(2), memory)]
    chunks += [_encode_chunk(vae, grey, memory) for _ in range((frames - 1) // VAE_SCALE_TEMPORAL)]
    mean, _ = vae.quant_conv(torch.cat(chunks, dim=2)).chunk(2, dim=1)
    return torch.as_tensor(mean)


def _encode_chunk(vae: Any, chunk: torch.Tensor, memory: list[Any]) -> torch.Tensor:
    pixels = patchify(chunk, vae.config.patch_size) if vae.config.patch_size else chunk
    return torch.as_tensor(vae.encoder(pixels, feat_cache=memory, feat_idx=[0]))


def decode_stream(vae: Any, latents: torch.Tensor) -> Iterator[torch.Tensor]:
    """Frames of normalised latents (1, 16, frames, height, width), chunk by chunk.

    Yields (1, 3, k, 8·height, 8·width) in [−1, 1] with k = 1 for the first chunk and 4 for each after.
    """
    memory = _memory(vae.decoder)
    for index in range(latents.shape[2]):
        with torch.inference_mode():
            latent = vae.post_quant_conv(denormalise(vae, latents[:, :, index : index + 1]))
            pixels = vae.decoder(latent, feat_cache=memory, feat_idx=[0], first_chunk=index == 0)
            if vae.config.patch_size:
                pixels = unpatchify(pixels, vae.config.patch_size)
            chunk = pixels.clamp(-1.0, 1.0)
        yield chunk
