"""The causal VAE as a stream: frames in, latent frames out, and back, one chunk at a time.

`AutoencoderKLWan` works on one frame first and then on four at a time, with a two-frame memory before each causal
convolution; its own `encode` and `decode` glue all chunks together. These functions yield them, so that memory does not
grow with the number of frames, and skip what no longer changes in a still canvas. Encoding gives diffusers' own bits;
decoding, which makes most of the time, uses faster CPU kernels: at most 1e-5 apart. Imported by stages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from wan2_i2v.geometry import LATENT_CHANNELS, VAE_SCALE_TEMPORAL
from wan2_i2v.models.causal_layers import Stream, pointwise
from wan2_i2v.models.definitions import patchify, unpatchify


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


@dataclass(frozen=True)
class Given:
    """The pictures that a clip shows: `image` in frame 0 and, where there is one, `last_image` in its `ending` last frames.

    Pictures are (1, 3, height, width) in [−1, 1]; `ending` is from 1 to 4.
    """

    image: torch.Tensor
    last_image: torch.Tensor | None = None
    ending: int = 1

    def chunks(self, vae: Any, frames: int) -> Iterator[torch.Tensor]:
        """The canvas of `frames` = 4n+1 as the encoder takes it: frame 0, then four at a time; mid-grey (0) where nothing
        is given, the same tensor each time."""
        yield pixels_in(vae, self.image.unsqueeze(2))
        grey = torch.zeros_like(self.image).unsqueeze(2).expand(-1, -1, VAE_SCALE_TEMPORAL, -1, -1)
        between, count = pixels_in(vae, grey), (frames - 1) // VAE_SCALE_TEMPORAL
        for _ in range(count - (self.last_image is not None)):
            yield between
        if self.last_image is not None:
            end = grey.clone()
            end[:, :, VAE_SCALE_TEMPORAL - self.ending :] = self.last_image.unsqueeze(2)
            yield pixels_in(vae, end)


@torch.inference_mode()
def encode_canvas(vae: Any, given: Given, frames: int) -> torch.Tensor:
    """Mean latents of a clip of `frames` = 4n+1 that shows what is `given` and mid-grey elsewhere.

    The pictures are on the VAE's device and in its dtype. Returns (1, 16, n+1, height / 8, width / 8), not normalised.
    """
    stream = Stream(reuse=True)
    return mean_of(vae, [_encode_chunk(vae, stream, chunk) for chunk in given.chunks(vae, frames)])


def mean_of(vae: Any, chunks: list[torch.Tensor]) -> torch.Tensor:
    """The mean latents (1, 16, n, height, width) of what the encoder gave chunk by chunk."""
    mean, _ = pointwise(vae.quant_conv, torch.cat(chunks, dim=2)).chunk(2, dim=1)
    return mean


def pixels_in(vae: Any, chunk: torch.Tensor) -> torch.Tensor:
    """Pixels (1, 3, k, height, width) as the encoder takes them: in patches where the VAE has some."""
    return torch.as_tensor(patchify(chunk, vae.config.patch_size)) if vae.config.patch_size else chunk


def _encode_chunk(vae: Any, stream: Stream, pixels: torch.Tensor) -> torch.Tensor:
    """`WanEncoder3d` on one chunk of 1 or 4 frames: (1, 32, 1, height, width), mean and log-variance."""
    return encoder_rest(vae, stream, encoder_start(vae, stream, pixels))


def encoder_start(vae: Any, stream: Stream, pixels: torch.Tensor) -> torch.Tensor:
    """The encoder's convolutions down to an eighth of the size."""
    x = stream.convolve(vae.encoder.conv_in, pixels)
    for layer in vae.encoder.down_blocks:
        x = stream.layer(layer, x)
    return x


def encoder_rest(vae: Any, stream: Stream, features: torch.Tensor) -> torch.Tensor:
    """The encoder from its middle on."""
    x = _coder_middle(stream, vae.encoder.mid_block, features)
    return stream.convolve(vae.encoder.conv_out, x, vae.encoder.norm_out)


def _coder_middle(stream: Stream, block: Any, x: torch.Tensor) -> torch.Tensor:
    x = stream.residual(block.resnets[0], x)
    for attend, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        x = stream.residual(resnet, stream.layer(attend, x))
    return x


def decode_stream(vae: Any, latents: torch.Tensor) -> Iterator[torch.Tensor]:
    """Frames of normalised latents (1, 16, frames, height, width), chunk by chunk.

    Yields (1, 3, k, 8·height, 8·width) in [−1, 1] with k = 1 for the first chunk and 4 for each after.
    """
    stream = Stream(reuse=False, exact=False)
    for index in range(latents.shape[2]):
        with torch.inference_mode():
            features = decoder_middle(vae, stream, latents[:, :, index : index + 1])
            pixels = decoder_rest(vae, stream, features)
            del features
        yield pixels


def decoder_middle(vae: Any, stream: Stream, latent: torch.Tensor) -> torch.Tensor:
    """`WanDecoder3d` up to and with its middle on one normalised latent frame (1, 16, 1, height, width)."""
    latent = pointwise(vae.post_quant_conv, denormalise(vae, latent))
    return _coder_middle(stream, vae.decoder.mid_block, stream.convolve(vae.decoder.conv_in, latent))


def decoder_rest(vae: Any, stream: Stream, features: torch.Tensor) -> torch.Tensor:
    """The decoder's convolutions up to the full size: pixels (1, 3, k, 8·height, 8·width), clamped to [−1, 1]."""
    decoder, x = vae.decoder, features
    for block in decoder.up_blocks:
        for layer in (*block.resnets, *(block.upsamplers or ())):
            x = stream.layer(layer, x)
    pixels = stream.convolve(decoder.conv_out, x, decoder.norm_out)
    if vae.config.patch_size:
        pixels = unpatchify(pixels, vae.config.patch_size)
    return torch.as_tensor(pixels).clamp_(-1.0, 1.0)
