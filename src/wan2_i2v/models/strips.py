"""The causal VAE on strips of the picture, one after the other, for when memory is short: no blending, no seams.

Comes in: what `causal_vae` takes. Goes out: the same values. The middle of both coders, whose attention sees the whole
picture, runs on all of it at an eighth of the size; the rest are convolutions, which see no further than a margin that
follows from their number. A strip is computed with that margin and cut to its own part, so that every value comes from
the same inputs and weights as without strips. Decoding on a CPU gives the same bits; encoding may differ in the last ones
(about 1e-6), since torch chooses its kernel by size there. Imported by stages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from wan2_i2v.models import causal_vae
from wan2_i2v.models.causal_layers import Stream
from wan2_i2v.models.definitions import WanResample, WanResidualBlock

HEIGHT = 3
"""The dimension of rows in (batch, channels, frames, height, width); columns are the next one."""


def cut(latents_shape: torch.Size, strips: int) -> tuple[int, list[range]]:
    """The longer side's dimension (3 or 4) of (1, channels, frames, height, width), and its even parts."""
    dim = HEIGHT + (latents_shape[4] > latents_shape[3])
    length, count = latents_shape[dim], min(strips, latents_shape[dim])
    return dim, [range(length * i // count, length * (i + 1) // count) for i in range(count)]


@torch.inference_mode()
def decode_strip(vae: Any, latents: torch.Tensor, dim: int, part: range) -> Iterator[torch.Tensor]:
    """`causal_vae.decode_stream`, of one strip: latent rows (dim 3) or columns (dim 4) `part`, eight pixels each."""
    band, stream = _with_margin(part, decoder_margin(vae), latents.shape[dim]), Stream(reuse=False, exact=False)
    for index in range(latents.shape[2]):
        features = causal_vae.decoder_middle(vae, stream, latents[:, :, index : index + 1])
        pixels = causal_vae.decoder_rest(vae, stream, features.narrow(dim, band.start, len(band)))
        scale = pixels.shape[dim] // len(band)
        # A copy, so that the margin is not held with it.
        yield pixels.narrow(dim, (part.start - band.start) * scale, len(part) * scale).clone()


@torch.inference_mode()
def encode_canvas(vae: Any, given: causal_vae.Given, frames: int, strips: int) -> torch.Tensor:
    """`causal_vae.encode_canvas` in strips."""
    canvas = list(given.chunks(vae, frames))
    still = canvas[0]
    scale = 2 ** sum(isinstance(layer, WanResample) for layer in vae.encoder.down_blocks)
    size = torch.Size((*still.shape[:3], still.shape[3] // scale, still.shape[4] // scale))
    dim, parts = cut(size, strips)
    rows = [_encode_strip(vae, canvas, (dim, part)) for part in parts]
    stream = Stream(reuse=True)
    moments = [causal_vae.encoder_rest(vae, stream, torch.cat(chunk, dim=dim)) for chunk in zip(*rows, strict=True)]
    return causal_vae.mean_of(vae, moments)


def _encode_strip(vae: Any, canvas: list[torch.Tensor], place: tuple[int, range]) -> list[torch.Tensor]:
    """The encoder up to its middle on one strip: a tensor per chunk of frames, the same one where nothing changed."""
    dim, part = place
    scale = 2 ** sum(isinstance(layer, WanResample) for layer in vae.encoder.down_blocks)
    band = _with_margin(part, encoder_margin(vae), canvas[0].shape[dim] // scale)
    # Equal chunks are one tensor, so that the stream knows them again; their strips must be one too.
    bands = {id(chunk): chunk.narrow(dim, band.start * scale, len(band) * scale) for chunk in canvas}
    stream, found = Stream(reuse=True), list[torch.Tensor]()
    before: torch.Tensor | None = None
    for chunk in canvas:
        features = causal_vae.encoder_start(vae, stream, bands[id(chunk)])
        if features is not before:
            own = features.narrow(dim, part.start - band.start, len(part)).clone()
        before = features
        found.append(own)
    return found


def _with_margin(part: range, margin: int, length: int) -> range:
    return range(max(0, part.start - margin), min(length, part.stop + margin))


def decoder_margin(vae: Any) -> int:
    """How many latent rows beyond a strip its pixels depend on, from the middle's output on."""
    reach = 1
    for block in reversed(vae.decoder.up_blocks):
        for layer in reversed((*block.resnets, *(block.upsamplers or ()))):
            reach = _reach_up(layer, reach)
    return reach


def _reach_up(layer: torch.nn.Module, reach: int) -> int:
    """Two convolutions of 3×3 in a residual block; one at the doubled size after an upsampling."""
    if isinstance(layer, WanResidualBlock):
        return reach + 2
    if isinstance(layer, WanResample):
        return -(-(reach + 1) // 2)
    raise TypeError(f"{type(layer).__name__} is no layer of the Wan 2.1 VAE's decoder that strips can pass")


def encoder_margin(vae: Any) -> int:
    """How many rows of the middle's input, beyond a strip, share pixels with it: enough for every convolution."""
    reach, scale = 0, 1
    for layer in reversed(vae.encoder.down_blocks):
        if isinstance(layer, WanResidualBlock):
            reach += 2
        elif isinstance(layer, WanResample):
            # Stride 2, kernel 3: output row r sees input rows 2r to 2r + 2.
            reach, scale = 2 * reach + 1, scale * 2
        else:
            raise TypeError(f"{type(layer).__name__} is no layer of the Wan 2.1 VAE's encoder that strips can pass")
    return -(-(reach + 1) // scale)
