"""The layers of Wan's causal VAE on one chunk of frames, with little memory and without needless work.

Comes in: diffusers' own modules and a chunk (1, channels, frames, height, width). Goes out: the chunk that
`WanResidualBlock`, `WanResample`, `WanAttentionBlock` and `WanCausalConv3d` would give, bit for bit when `exact`. Differences are
only in how: norm and activation write one frame at a time straight into the convolution's padded input, upsampling does
not pass through float32, and a chunk that cannot differ from the one before is not computed again. Convolutions get the
shapes that diffusers gives them, because CPU kernels choose their order of summation by shape (measured: convolving
frame by frame, or with padding as an argument, changes the last bits). Imported by `causal_vae`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

from wan2_i2v.models.definitions import WanAttentionBlock, WanResample, WanResidualBlock

HISTORY = 2
"""Frames before the chunk that a temporal kernel of 3 sees."""

NARROW_BANDS = 4
"""Parts of a frame that pass through float32 one after the other."""


@dataclass
class _Kept:
    """The output of a layer whose input will not change any more; `sources` are its inputs where they are kept too."""

    sources: tuple[torch.Tensor, ...]
    output: torch.Tensor


@dataclass
class Stream:
    """What a coder remembers between chunks: each causal convolution's last input frames and settled outputs.

    With `reuse`, a convolution that saw nothing but equal frames, history included, and sees them again, gives the
    output of the first time: same input, same arithmetic, same bits. Layers without history do so when they are given
    the very tensor of the time before.

    With `exact`, every value has diffusers' own bits. Without, the same arithmetic goes through faster CPU kernels, which
    sum in another order: results are within 1e-5 of those, and do not depend on the size of the picture.
    """

    reuse: bool
    exact: bool = True
    history: dict[int, torch.Tensor] = field(default_factory=dict)
    kept: dict[int, _Kept] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)

    def layer(self, module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Any layer of the encoder's or decoder's trunk."""
        if isinstance(module, WanResidualBlock):
            return self.residual(module, x)
        if isinstance(module, WanResample):
            return self.resample(module, x)
        if isinstance(module, WanAttentionBlock):
            return self.stateless(module, lambda: torch.as_tensor(module(x)), x)
        raise TypeError(f"{type(module).__name__} is no layer of the Wan 2.1 VAE")

    def residual(self, block: Any, x: torch.Tensor) -> torch.Tensor:
        """`WanResidualBlock`: two norm, SiLU, causal convolution, and the shortcut added."""
        # Nested, so that nothing here holds the inner tensor: the second call drops it as soon as it can.
        outer = self.convolve(block.conv2, self.convolve(block.conv1, x, block.norm1), block.norm2)
        settled = id(outer) in self.settled

        def add() -> torch.Tensor:
            shortcut = x if isinstance(block.conv_shortcut, torch.nn.Identity) else pointwise(block.conv_shortcut, x)
            return outer + shortcut if settled else outer.add_(shortcut)

        return self.stateless(block, add, x, outer)

    def convolve(self, conv: Any, x: torch.Tensor, norm: Any = None) -> torch.Tensor:
        """A causal convolution (kernel 3 in time, stride 1) of `x`, or of SiLU(norm(x)), and the frames before it."""
        kept = self.kept.get(id(conv))
        if kept is not None and _same(kept.sources, (x,)):
            return kept.output
        window, lasting = self._window(conv, x, norm), self._lasting((x,))
        del x
        self.history[id(conv)] = window[:, :, -HISTORY:].clone()
        constant = self.reuse and _constant(window)
        # A picture of nothing but mid-grey is constant from its first frame on, whose output is shorter.
        if constant and kept is not None and kept.output.shape[2] == window.shape[2] - HISTORY:
            kept.sources = lasting
            return kept.output
        output = F.conv3d(window, conv.weight, conv.bias) if self.exact else convolve_fast(conv, window)
        return self._settle(conv, lasting, output) if constant else self._unsettle(conv, output)

    def _window(self, conv: Any, x: torch.Tensor, norm: Any) -> torch.Tensor:
        """The convolution's input with its zero padding: (1, channels, history + frames, height + 2, width + 2).

        The history is zero before the first frame. A kernel of 1 in space takes no padding there.
        """
        batch, channels, frames, height, width = x.shape
        left, right, top, bottom, *_ = conv._padding
        window = x.new_empty(batch, channels, HISTORY + frames, height + top + bottom, width + left + right)
        before = self.history.pop(id(conv), None)
        if before is None or left:
            window.zero_()
        if before is not None:
            window[:, :, :HISTORY] = before
        del before
        inner = window[:, :, HISTORY:, top : top + height, left : left + width]
        if norm is None:
            inner.copy_(x)
        else:
            normalise_and_activate(norm, x, inner, exact=self.exact)
        return window

    def resample(self, module: Any, x: torch.Tensor) -> torch.Tensor:
        """`WanResample`: 2× in space, and in time too for the 3D modes, which leave the very first frame alone."""
        if module.mode == "upsample3d":
            x = self._double_frames(module, x)
        scaled = self.stateless(module, lambda: resize(module, x), x)
        return self._halve_frames(module, scaled) if module.mode == "downsample3d" else scaled

    def _double_frames(self, module: Any, x: torch.Tensor) -> torch.Tensor:
        conv = module.time_conv
        if id(conv) not in self.history:
            self.history[id(conv)] = torch.zeros_like(x[:, :, :1]).expand(-1, -1, HISTORY, -1, -1)
            return x
        batch, channels, frames, height, width = x.shape
        pairs = self.convolve(conv, x).reshape(batch, 2, channels, frames, height, width)
        return torch.stack((pairs[:, 0], pairs[:, 1]), 3).reshape(batch, channels, frames * 2, height, width)

    def _halve_frames(self, module: Any, x: torch.Tensor) -> torch.Tensor:
        conv = module.time_conv
        before, kept = self.history.get(id(conv)), self.kept.get(id(conv))
        if kept is not None and _same(kept.sources, (x,)):
            return kept.output
        if before is None:
            self.history[id(conv)] = x.clone()
            return x
        window = torch.cat([before, x], dim=2)
        constant = self.reuse and _constant(window)
        lasting = self._lasting((x,))
        if constant and kept is not None:
            kept.sources = lasting
            return kept.output
        self.history[id(conv)] = x[:, :, -1:].clone()
        output = F.conv3d(window, conv.weight, conv.bias, stride=conv.stride)
        return self._settle(conv, lasting, output) if constant else self._unsettle(conv, output)

    def stateless(
        self, module: torch.nn.Module, compute: Callable[[], torch.Tensor], *inputs: torch.Tensor
    ) -> torch.Tensor:
        """The layer's output; computed once for inputs that come again and again."""
        if not (self.reuse and self._lasting(inputs)):
            return compute()
        kept = self.kept.get(id(module))
        return kept.output if kept and _same(kept.sources, inputs) else self._settle(module, inputs, compute())

    def _lasting(self, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """The inputs if all of them will come again as the same objects, else nothing, so that none is held in vain."""
        return inputs if all(id(x) in self.settled for x in inputs) else ()

    def _settle(self, module: torch.nn.Module, sources: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        self._unsettle(module, output)
        if output.shape[2] > 1 and _constant(output):
            output = output[:, :, :1].clone().expand(output.shape)
        self.kept[id(module)] = _Kept(sources, output)
        self.settled.add(id(output))
        return output

    def _unsettle(self, module: torch.nn.Module, output: torch.Tensor) -> torch.Tensor:
        old = self.kept.pop(id(module), None)
        if old is not None:
            self.settled.discard(id(old.output))
        return output


def _same(before: tuple[torch.Tensor, ...], now: tuple[torch.Tensor, ...]) -> bool:
    """Whether the very same tensors come again."""
    return len(before) == len(now) and all(a is b for a, b in zip(before, now, strict=True))


def _constant(window: torch.Tensor) -> bool:
    """Whether all frames are equal, bit for bit up to the sign of zero. The cheapest comparison first."""
    if window.shape[2] == 1:
        return True
    if not torch.equal(window[:, :, 0], window[:, :, -1]):
        return False
    return torch.equal(window[:, :, 1:], window[:, :, :-1])


def convolve_fast(conv: Any, window: torch.Tensor) -> torch.Tensor:
    """`conv3d` of a padded window; in float32 on a CPU always by oneDNN.

    torch takes a kernel of its own for inputs that it deems small (`use_mkldnn` in `Convolution.cpp`), which was measured
    to be 2 to 4 times slower here, and to hold a buffer of 27 times its input.
    """
    if window.device.type != "cpu" or window.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return F.conv3d(window, conv.weight, conv.bias)
    ones, none = [1, 1, 1], [0, 0, 0]
    return torch.mkldnn_convolution(window, conv.weight, conv.bias, none, ones, ones, 1)


def normalise_and_activate(norm: Any, x: torch.Tensor, out: torch.Tensor, *, exact: bool = True) -> None:
    """SiLU(`WanRMS_norm`(x)) of a chunk into `out` of the same shape, in the module's order of operations.

    One frame at a time in a buffer without gaps: SiLU rounds differently in strided memory. Narrow dtypes pass through
    float32 as in the module, in bands of rows.
    """
    wide = x.dtype in (torch.float32, torch.float64)
    lengths = (_length(x) if exact or x.device.type != "cpu" else _length_fast(x)) if wide else None
    rows = x.shape[3] if wide else -(-x.shape[3] // NARROW_BANDS)
    for index in range(x.shape[2]):
        for first in range(0, x.shape[3], rows):
            band = (slice(None), slice(None), index, slice(first, first + rows))
            _activate(norm, x[band], out[band], None if lengths is None else lengths[band])


def _activate(norm: Any, x: torch.Tensor, out: torch.Tensor, length: torch.Tensor | None) -> None:
    """One band (1, channels, rows, width); `length` where it is known already."""
    wide = x if length is not None else x.float()
    unit = (wide / (_length(wide) if length is None else length)).to(x.dtype)
    del wide
    unit.mul_(norm.scale).mul_(norm.gamma.view(-1, 1, 1))
    if isinstance(norm.bias, torch.Tensor):
        unit.add_(norm.bias.view(-1, 1, 1))
    out.copy_(F.silu(unit, inplace=True))


def _length(x: torch.Tensor) -> torch.Tensor:
    """Euclidean length along the channels, kept from zero as in `torch.nn.functional.normalize`."""
    return torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min_(1e-12)


def _length_fast(x: torch.Tensor) -> torch.Tensor:
    """`_length` channel by channel: torch's norm along a dimension that is not the last was measured 7 to 19 times slower."""
    squares = x[:, 0].square()
    for channel in range(1, x.shape[1]):
        squares.addcmul_(x[:, channel], x[:, channel])
    return squares.sqrt_().clamp_min_(1e-12).unsqueeze(1)


def pointwise(conv: Any, x: torch.Tensor) -> torch.Tensor:
    """A 1×1×1 causal convolution, which has no history."""
    return F.conv3d(x, conv.weight, conv.bias)


def resize(module: Any, x: torch.Tensor) -> torch.Tensor:
    """The spatial part of `WanResample`."""
    scale, convolution = module.resample
    batch, channels, frames, height, width = x.shape
    pictures = x.permute(0, 2, 1, 3, 4).reshape(batch * frames, channels, height, width)
    # Nearest neighbour moves values without arithmetic: no need of diffusers' detour through float32.
    upsampling = module.mode.startswith("upsample")
    scaled = F.interpolate(pictures, scale_factor=2.0, mode="nearest-exact") if upsampling else scale(pictures)
    del pictures
    result = convolution(scaled)
    return torch.as_tensor(result.view(batch, frames, *result.shape[1:]).permute(0, 2, 1, 3, 4))
