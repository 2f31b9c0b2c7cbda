"""Bytes that the runtime's own computations hold at their peak, from shapes. A leaf without torch.

Comes in: sizes. Goes out: bytes. Each function walks the same steps as the code it stands for (`models/lean.py`,
`models/causal_layers.py`) and keeps account of what is alive; `benchmarks/memory.py` compares with that code traced.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from wan2_i2v.geometry import LatentShape

HISTORY = 2
BANDS = 4
FLOAT = 4
TEXT_TOKENS = 512
INPUT_CHANNELS = 36
MOMENTS = 32
"""Channels that the VAE encodes to: means and log-variances."""

GIVEN_CHUNKS = 8
"""Of a canvas cut in strips, how many chunks give features of their own, with some to spare."""


@dataclass
class Tape:
    """What is alive now, and the most that ever was, in bytes."""

    live: float = 0
    peak: float = 0

    def hold(self, size: float) -> None:
        self.live += size
        self.peak = max(self.peak, self.live)

    def drop(self, size: float) -> None:
        self.live -= size

    def need(self, size: float) -> None:
        """Held for a moment."""
        self.peak = max(self.peak, self.live + size)


@dataclass(frozen=True)
class Transformer:
    """One expert's dimensions and how it is computed; `element` is bytes of the compute dtype."""

    dim: int
    ffn_dim: int
    heads: int
    layers: int
    element: int
    chunk_tokens: int
    group_heads: int
    text_dim: int
    kept_texts: int

    def peak(self, latent: LatentShape) -> int:
        """Bytes of one step: the sample, the hidden state, q, k, v, and the largest temporary."""
        tokens, size = latent.tokens, self.element
        rows, hidden = min(self.chunk_tokens, tokens) * self.dim, tokens * self.dim * size
        inner = min(self.chunk_tokens, tokens) * self.ffn_dim * size
        pair = 2 * TEXT_TOKENS * self.dim * size
        tape = Tape()
        tape.hold(INPUT_CHANNELS * 4 * tokens * size + tokens * self.dim // self.heads * FLOAT)
        tape.hold(TEXT_TOKENS * self.text_dim * size + pair // 2 + self.kept_texts * (pair // 2))
        tape.hold(self._kept_pairs(self.layers - 1) * pair)
        tape.need(2 * hidden + pair)
        tape.hold(hidden)
        tape.need(3 * hidden + rows * (3 * size if size == FLOAT else 10))
        tape.need(3 * hidden + hidden * self.group_heads / self.heads + tokens * self.group_heads * FLOAT)
        tape.hold(pair)
        tape.need(rows * 4 * size + pair // 2)
        tape.need(rows * size + 2 * inner)
        return int(tape.peak)

    def _kept_pairs(self, layers: int) -> int:
        return self.kept_texts * layers


@dataclass(frozen=True)
class Vae:
    """The causal VAE's dimensions. `levels` are channel multiples from full to low resolution; `temporal` whether each
    step between two of them halves time too."""

    base: int
    levels: tuple[int, ...]
    temporal: tuple[bool, ...]
    blocks: int
    patch: int
    element: int

    @property
    def encoder_parameters(self) -> int:
        """Weights of the half that encodes; the others are the decoder's."""
        channels = [self.base * multiple for multiple in (1, *self.levels)]
        count = _convolution(3 * self.patch**2, channels[0], 27)
        for level, (source, target) in enumerate(pairwise(channels)):
            count += _residual(source, target) + (self.blocks - 1) * _residual(target, target)
            if level < len(self.levels) - 1:
                count += _convolution(target, target, 9) + self.temporal[level] * _convolution(target, target, 3)
        last = channels[-1]
        count += 2 * _residual(last, last) + last + _convolution(last, 3 * last, 1) + _convolution(last, last, 1)
        return count + last + _convolution(last, MOMENTS, 27) + _convolution(MOMENTS, MOMENTS, 1)

    @property
    def decoder_margin(self) -> int:
        """Latent rows beyond a strip that its pixels depend on (`strips.decoder_margin`)."""
        reach = 1
        for level in reversed(range(len(self.levels))):
            reach = (-(-(reach + 1) // 2) if level < len(self.levels) - 1 else reach) + 2 * (self.blocks + 1)
        return reach

    @property
    def encoder_margin(self) -> int:
        """Latent rows beyond a strip that share pixels with it (`strips.encoder_margin`)."""
        reach = 0
        for level in reversed(range(len(self.levels))):
            reach = (2 * reach + 1 if level < len(self.levels) - 1 else reach) + 2 * self.blocks
        return -(-(reach + 1) // (1 << (len(self.levels) - 1)))

    def repeated(self, latent: LatentShape, strips: int, margin: int) -> float:
        """How often a position is computed on average where the picture is cut in `strips` with `margin`; 1 if not."""
        band, _ = _band(latent, strips, margin)
        return strips * float(band.height * band.width) / (latent.height * latent.width) if strips > 1 else 1.0

    def decode_strips_peak(self, latent: LatentShape, strips: int) -> int:
        """The same where the picture is cut in `strips`, which see a margin: the middle's output is there whole, and a
        strip's own pixels are copied."""
        band, own = _band(latent, strips, self.decoder_margin)
        scale = self.patch * 2 ** (len(self.levels) - 1)
        middle = self.base * self.levels[-1] * (1 + 5 * HISTORY) * latent.height * latent.width
        pixels = 3 * frames_of(self.temporal) * own * scale**2
        return self.decode_peak(band) + int((middle + pixels + _product(latent.tensor)) * self.element)

    def encode_strips_peak(self, latent: LatentShape, strips: int) -> int:
        """The same where the picture is cut in `strips`: the canvas and what the strips gave before are there whole."""
        band, _ = _band(latent, strips, self.encoder_margin)
        scale = 2 ** (len(self.levels) - 1)
        area, beyond = latent.height * latent.width, latent.height * latent.width - band.height * band.width
        canvas = 6 * 3 * self.patch**2 * scale**2 * beyond
        features = self.base * self.levels[-1] * GIVEN_CHUNKS * area
        return self.encode_peak(band) + int((canvas + features) * self.element)

    def decode_peak(self, latent: LatentShape) -> int:
        """Bytes of decoding a later chunk: all histories are there, four frames come out."""
        walk = _Walk(self.element)
        # The latents, and the pixels of the chunk before, which the reader of the stream still has.
        scale = self.patch * 2 ** (len(self.levels) - 1)
        pixels = 3 * frames_of(self.temporal) * latent.height * latent.width * scale**2
        walk.tape.hold((_product(latent.tensor) + pixels) * self.element)
        channels = [self.base * multiple for multiple in (self.levels[-1], *self.levels[::-1])]
        height, width, frames = latent.height, latent.width, 1
        walk.history(sum(self._decoder_history(latent)))
        walk.start(16, channels[0], frames, height, width)
        walk.middle(channels[0], height, width)
        source = channels[0]
        for level, target in enumerate(channels[1:]):
            for _ in range(self.blocks + 1):
                walk.residual(source, target, frames, height, width)
                source = target
            if level < len(self.levels) - 1:
                doubles = self.temporal[::-1][level]
                walk.upsample(source, frames, height, width, doubles)
                source, frames, height, width = source // 2, frames * (1 + doubles), height * 2, width * 2
        walk.finish(source, 3 * self.patch**2, frames, height, width, self.patch)
        return int(walk.tape.peak)

    def encode_peak(self, latent: LatentShape) -> int:
        """Bytes of encoding a later chunk whose input still changes."""
        walk = _Walk(self.element)
        scale = 2 ** (len(self.levels) - 1)
        height, width, frames = latent.height * scale, latent.width * scale, 4
        pixels = 3 * self.patch**2
        walk.tape.hold((6 * pixels * height * width + 32 * latent.frames * latent.height * latent.width) * self.element)
        channels = [self.base * multiple for multiple in (1, *self.levels)]
        walk.history(sum(self._encoder_history(latent)))
        walk.start(pixels, channels[0], frames, height, width)
        source = channels[0]
        for level, target in enumerate(channels[1:]):
            for _ in range(self.blocks):
                walk.residual(source, target, frames, height, width)
                source = target
            if level < len(self.levels) - 1:
                halves = self.temporal[level]
                walk.downsample(source, frames, height, width, halves)
                frames, height, width = frames // (1 + halves), height // 2, width // 2
        walk.middle(source, height, width)
        walk.finish(source, 32, frames, height, width, 1)
        return int(walk.tape.peak)

    def _decoder_history(self, latent: LatentShape) -> list[int]:
        """Elements of every convolution's two remembered frames."""
        channels = [self.base * multiple for multiple in (self.levels[-1], *self.levels[::-1])]
        height, width, source = latent.height, latent.width, channels[0]
        sizes = [_history(16, height, width)] + [_history(source, height, width)] * 4
        for level, target in enumerate(channels[1:]):
            for _ in range(self.blocks + 1):
                sizes += [_history(source, height, width), _history(target, height, width)]
                source = target
            if level < len(self.levels) - 1:
                if self.temporal[::-1][level]:
                    sizes.append(HISTORY * source * height * width)
                source, height, width = source // 2, height * 2, width * 2
        return [*sizes, _history(source, height, width)]

    def _encoder_history(self, latent: LatentShape) -> list[int]:
        channels = [self.base * multiple for multiple in (1, *self.levels)]
        scale = 2 ** (len(self.levels) - 1)
        height, width, source = latent.height * scale, latent.width * scale, channels[0]
        sizes = [_history(3 * self.patch**2, height, width)]
        for level, target in enumerate(channels[1:]):
            for _ in range(self.blocks):
                sizes += [_history(source, height, width), _history(target, height, width)]
                source = target
            if level < len(self.levels) - 1:
                height, width = height // 2, width // 2
                if self.temporal[level]:
                    sizes.append(source * height * width)
        return sizes + [_history(source, height, width)] * 5


class _Walk:
    """Steps of `causal_layers.Stream` on sizes. The tensor handed from step to step is on the tape."""

    def __init__(self, element: int) -> None:
        self.tape = Tape()
        self._element = element

    def history(self, elements: int) -> None:
        self.tape.hold(elements * self._element)

    def start(self, source: int, target: int, frames: int, height: int, width: int) -> None:
        self._convolve(source, target, frames, height, width, owned=False, norm=False)

    def residual(self, source: int, target: int, frames: int, height: int, width: int) -> None:
        self._convolve(source, target, frames, height, width, owned=False)
        self._convolve(target, target, frames, height, width, owned=True)
        shortcut = 0 if source == target else target
        self.tape.need(shortcut * frames * height * width * self._element)
        self.tape.drop(source * frames * height * width * self._element)

    def middle(self, channels: int, height: int, width: int) -> None:
        """Two residual blocks and attention over one frame."""
        self.residual(channels, channels, 1, height, width)
        self.tape.need(9 * channels * height * width * self._element)
        self.residual(channels, channels, 1, height, width)

    def upsample(self, channels: int, frames: int, height: int, width: int, doubles: bool) -> None:
        area, size = height * width, self._element
        first = channels * frames * area * size
        if doubles:
            self.tape.need((channels * (HISTORY + frames) + 2 * channels * frames) * area * size + first)
            self.tape.hold(2 * first)
            self.tape.need(2 * first)
            frames *= 2
        picture = channels * frames * area * size
        self.tape.need(picture + 4 * picture)
        self.tape.need(4 * picture + 2 * picture)
        self.tape.hold(2 * picture)
        self.tape.drop(first * (3 if doubles else 1))

    def downsample(self, channels: int, frames: int, height: int, width: int, halves: bool) -> None:
        size = self._element
        picture, padded = (
            channels * frames * height * width * size,
            channels * frames * (height + 1) * (width + 1) * size,
        )
        self.tape.need(picture + padded)
        self.tape.need(padded + picture / 4)
        self.tape.hold(picture / 4)
        if halves:
            self.tape.need(picture / 4 * (1 + 1 / frames) + picture / 8)
        self.tape.drop(picture + (picture / 8 if halves else 0))

    def finish(self, source: int, target: int, frames: int, height: int, width: int, patch: int) -> None:
        self._convolve(source, target, frames, height, width, owned=True)
        if patch > 1:
            self.tape.need(target * frames * height * width * self._element)

    def _convolve(
        self, source: int, target: int, frames: int, height: int, width: int, *, owned: bool, norm: bool = True
    ) -> None:
        size, area = self._element, height * width
        window = source * (HISTORY + frames) * (height + 2) * (width + 2) * size
        self.tape.hold(window)
        self.tape.drop(_history(source, height, width) * size)
        if norm and size == FLOAT:
            self.tape.need((source + frames) * area * FLOAT + area * FLOAT)
        elif norm:
            self.tape.need(2 * source * -(-height // BANDS) * width * FLOAT)
        self.tape.drop(source * frames * area * size if owned else 0)
        self.tape.hold(_history(source, height, width) * size)
        self.tape.hold(target * frames * area * size)
        self.tape.drop(window)


def frames_of(temporal: tuple[bool, ...]) -> int:
    """Frames of one later chunk."""
    return int(2 ** sum(temporal))


def _band(latent: LatentShape, strips: int, margin: int) -> tuple[LatentShape, int]:
    """The widest strip with its margin on both sides, and the latent positions of its own part: `strips.cut`."""
    longer, shorter = max(latent.height, latent.width), min(latent.height, latent.width)
    count = min(strips, longer)
    edges = [longer * index // count for index in range(count + 1)]
    wide = max(min(longer, stop + margin) - max(0, start - margin) for start, stop in pairwise(edges))
    return LatentShape(latent.frames, shorter, wide), -(-longer // count) * shorter


def _convolution(source: int, target: int, kernel: int) -> int:
    """Weights and biases of a convolution with `kernel` positions."""
    return (source * kernel + 1) * target


def _residual(source: int, target: int) -> int:
    """Weights of a residual block: two norms, two convolutions, and a shortcut where the width changes."""
    shortcut = 0 if source == target else _convolution(source, target, 1)
    return source + _convolution(source, target, 27) + target + _convolution(target, target, 27) + shortcut


def _history(channels: int, height: int, width: int) -> int:
    return channels * HISTORY * (height + 2) * (width + 2)


def _product(sizes: tuple[int, ...]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result
