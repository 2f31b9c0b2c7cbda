"""Numbers of a clip's frames, gathered in one pass with a few small frames in memory. Imported by `clip`.

Everything is measured on small copies, so that a number means about the same for every size: 320 px (long side) luma for
brightness and motion, 640 px luma for sharpness and noise. Colour drift is measured along the motion: every LAG frames
the picture is laid back onto the one LAG frames earlier, and what is left in its median is drift, not new content.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from wan2_i2v.eye.faces import Picture

Luma = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Coarse = npt.NDArray[np.float32]
"""Luma averaged over 4 × 4 pixels of the 320 px copy."""

WORK = 320
FINE = 640
LAG = 8
"""Frames between the two that motion is measured on: from one frame to the next, noise moves as much as a slow zoom."""
REACH = 6
"""Frames back to which each frame is compared, so that a flash is told from a cut."""
SOFT = 2.0
"""Pixels of coarse luma: the blur that takes the noise out of what differs from frame 0."""
COLOURED = 3.0
"""Spread of a* and b* (Lab units) from which a picture says something about saturation."""
LIT = 0.05
"""Share of the width within which light that falls on a part of the picture hardly changes."""
ONE_COLOUR = 6.0
"""Chroma from which a picture of one colour does: change along its colour is then saturation, across it a tint."""


@dataclass(frozen=True)
class Link:
    """What changed from anchor frame `begin` to `frame`, along the motion. Lab units; logarithms of ratios.

    Colours go from (a*, b*) to exp(saturation) · (a*, b*) + (green_red, blue_yellow).
    """

    begin: int
    frame: int
    light: float
    green_red: float
    blue_yellow: float
    saturation: float
    contrast: float
    sharpness: float


@dataclass(frozen=True)
class Series:
    """One value per frame, axis 0 the frame; `back[k]` compares with the frame k + 1 earlier (NaN where there is none).

    `mean`, `std`: luma, 0 to 255. `sharp`: variance of the Laplacian. `noise`: robust sigma of the finest detail, grey
    levels. `back`: REACH × frames, mean absolute luma difference. `jump`: mean absolute difference of coarse luma to the
    frame before, brought to its brightness and contrast; `content`: the same without what is smooth in it, as light is that
    falls on a part of the picture. `away`: mean absolute difference of coarse luma to frame 0,
    brought to its mean; `soft`: the same of blurred luma, which noise does not move. `flow`, `peak`: mean and 95th percentile of the optical
    flow over LAG frames, % of the diagonal; `camera`: length of the median flow vector. `links`: see `Link`.
    """

    mean: Floats
    std: Floats
    sharp: Floats
    noise: Floats
    back: Floats
    jump: Floats
    content: Floats
    away: Floats
    soft: Floats
    flow: Floats
    peak: Floats
    camera: Floats
    links: tuple[Link, ...]
    light: float
    """Mean L* of frame 0."""

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def step(self) -> Floats:
        """Difference to the frame before, from frame 1 on."""
        return self.back[0, 1:]


@dataclass
class Gatherer:
    """Takes frames in order through `see`; `series` at the end. Call under `cv2.setNumThreads(1)` for equal results."""

    _rows: list[tuple[float, ...]] = field(default_factory=list)
    _back: list[list[float]] = field(default_factory=list)
    _flows: list[tuple[float, float, float]] = field(default_factory=list)
    _links: list[Link] = field(default_factory=list)
    _window: deque[tuple[Luma, Picture, Luma]] = field(default_factory=lambda: deque(maxlen=LAG + 1))
    _start: Coarse | None = None
    _tiny: Coarse | None = None
    _light: float = 0.0
    _linked: int = 0

    def see(self, picture: Picture) -> None:
        """Take in the next frame: height × width × 3, RGB, uint8."""
        small = shrink(picture, WORK)
        luma = grey(small)
        fine = shrink(grey(picture), FINE)
        tiny = _tiny(luma)
        if self._start is None:
            self._start = tiny
            self._light = float(lab(small)[..., 0].mean())
        jump = (0.0, 0.0) if self._tiny is None else _jump(self._tiny, tiny)
        level = float(self._start.mean()) / max(float(tiny.mean()), 1.0)
        off = self._start - tiny * np.float32(level)
        away = float(np.abs(off).mean()), float(np.abs(cv2.GaussianBlur(off, (0, 0), SOFT)).mean())
        self._rows.append((float(luma.mean()), float(luma.std()), _sharpness(fine), _noise(fine), *jump, *away))
        earlier = list(self._window)[::-1][:REACH]
        self._back.append([float(cv2.absdiff(luma, past).mean()) for past, _, _ in earlier])
        self._tiny = tiny
        self._window.append((luma, small, fine))
        if len(self._window) == LAG + 1:
            flow = flow_between(self._window[0][0], luma)
            self._flows.append(_lengths(flow))
            if (len(self._rows) - 1) % LAG == 0:
                self._link(0, flow)

    def _link(self, anchor: int, flow: npt.NDArray[np.float32]) -> None:
        """Add the link from the window's entry `anchor` to the last frame."""
        begin, self._linked = self._linked, len(self._rows) - 1
        (_, old, old_fine), (_, new, new_fine) = self._window[anchor], self._window[-1]
        drift = _drift(old, new, flow)
        self._links.append(Link(begin, self._linked, *drift, _sharpening(old_fine, new_fine, flow)))

    def series(self) -> Series:
        """All numbers; the last link reaches the last frame."""
        left = len(self._rows) - 1 - self._linked
        if left > 0:
            anchor = len(self._window) - 1 - left
            self._link(anchor, flow_between(self._window[anchor][0], self._window[-1][0]))
        rows = np.array(self._rows, dtype=np.float64).reshape(-1, 8)
        back = np.full((REACH, len(rows)), np.nan)
        for index, differences in enumerate(self._back):
            back[: len(differences), index] = differences
        flows = np.array(self._flows, dtype=np.float64).reshape(-1, 3)
        mean, std, sharp, noise, jump, content, away, soft = rows.T
        flow, peak, camera = flows.T
        return Series(
            mean,
            std,
            sharp,
            noise,
            back,
            jump,
            content,
            away,
            soft,
            flow,
            peak,
            camera,
            tuple(self._links),
            self._light,
        )


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """DIS cuts the picture into one stripe per thread, so its result depends on their number."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def shrink(picture: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """The picture with a long side of at most `side` pixels, areas averaged."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def grey(picture: Picture) -> Luma:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def lab(picture: Picture) -> npt.NDArray[np.float32]:
    """CIE L*a*b*: L* 0 to 100, a* and b* about ±100."""
    return np.asarray(cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), dtype=np.float32)


def flow_between(a: Luma, b: Luma) -> npt.NDArray[np.float32]:
    """Optical flow (DIS) from `a` to `b`: height × width × 2, pixels. Pictures too small for it are taken as still."""
    if min(a.shape) < 16:
        return np.zeros((*a.shape, 2), dtype=np.float32)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return np.asarray(flow.calc(a, b, None), dtype=np.float32)


def _lengths(flow: npt.NDArray[np.float32]) -> tuple[float, float, float]:
    """Mean, 95th percentile and common part of a flow, % of the diagonal."""
    share = 100 / float(np.hypot(*flow.shape[:2]))
    length = cv2.magnitude(flow[..., 0], flow[..., 1])
    common = np.median(flow[::4, ::4].reshape(-1, 2), axis=0)
    return (
        float(length.mean()) * share,
        float(np.percentile(length[::2, ::2], 95)) * share,
        float(np.hypot(*common)) * share,
    )


def _drift(before: Picture, after: Picture, flow: npt.NDArray[np.float32]) -> tuple[float, float, float, float, float]:
    """`Link`'s numbers, over the pixels that stay inside the picture."""
    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    old, new = lab(before), cv2.remap(lab(after), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    if inside.mean() < 0.1:
        return (0.0,) * 5
    old, new = old[inside], new[inside]
    light = float(np.median(new[:, 0] - old[:, 0]))
    off = np.abs(new[:, 0] - old[:, 0] - light)
    kept = off <= max(float(np.percentile(off, 90)), 0.5)
    green_red, blue_yellow, saturation = _colour(old[kept, 1:], new[kept, 1:])
    return light, green_red, blue_yellow, saturation, _contrast(old[:, 0], new[:, 0])


def _colour(old: npt.NDArray[np.float32], new: npt.NDArray[np.float32]) -> tuple[float, float, float]:
    """Shift of a* and b* and log factor of both that bring the mean and spread of `old` to those of `new` (n × 2).

    Not the least squares of the pixels: where they do not lie on each other exactly, that takes every colour for paler.
    """
    mean = old.mean(axis=0), new.mean(axis=0)
    spread, after = (float(((value - centre) ** 2).mean()) for value, centre in zip((old, new), mean, strict=True))
    square = float((mean[0] ** 2).sum())
    if spread > COLOURED**2:
        factor = float(np.sqrt(after / spread))
    else:
        factor = float(mean[0] @ mean[1]) / square if square > ONE_COLOUR**2 else 1.0
    factor = min(max(factor, 0.05), 20.0)
    rest = mean[1] - factor * mean[0]
    return float(rest[0]), float(rest[1]), float(np.log(factor))


def _contrast(old: npt.NDArray[np.float32], new: npt.NDArray[np.float32]) -> float:
    """Log ratio of the spread of L* between the 10th and the 90th percentile."""
    spreads = [float(np.subtract(*np.percentile(value[::2], (90, 10)))) for value in (old, new)]
    return float(np.log(max(spreads[1], 0.5) / max(spreads[0], 0.5)))


def _tiny(luma: Luma) -> Coarse:
    height, width = luma.shape
    size = (max(1, width // 4), max(1, height // 4))
    return np.asarray(cv2.resize(luma.astype(np.float32), size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _jump(before: Coarse, after: Coarse) -> tuple[float, float]:
    """Mean absolute difference after the least-squares change of brightness and contrast; without what is smooth in it."""
    old, new = before - before.mean(), after - after.mean()
    factor = float((old * new).mean()) / max(float((new * new).mean()), 1e-6)
    off = old - np.float32(factor) * new
    fine = off - cv2.GaussianBlur(off, (0, 0), max(1.0, LIT * off.shape[1]))
    return float(np.abs(off).mean()), float(np.abs(fine).mean())


def _sharpness(luma: Luma) -> float:
    return float(cv2.meanStdDev(cv2.Laplacian(luma, cv2.CV_16S))[1][0, 0] ** 2)


def _sharpening(old: Luma, new: Luma, flow: npt.NDArray[np.float32]) -> float:
    """Log ratio of the sharpness of what both frames show: the two are shifted by the camera's move, not resampled."""
    scale = old.shape[1] / flow.shape[1]
    dx, dy = (round(float(value) * scale) for value in np.median(flow[::4, ::4].reshape(-1, 2), axis=0))
    height, width = old.shape
    if abs(dx) > 0.8 * width or abs(dy) > 0.8 * height:
        return 0.0
    before = old[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
    after = new[max(0, dy) : height - max(0, -dy), max(0, dx) : width - max(0, -dx)]
    return float(np.log(max(_sharpness(after), 1.0) / max(_sharpness(before), 1.0)))


NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
"""Immerkaer 1996, blind to edges of constant slope; white noise of sigma s gives values of sigma 6 s."""


def _noise(luma: Luma) -> float:
    """Robust sigma of white noise: the median ignores edges as long as they cover less than half of the picture."""
    detail = cv2.filter2D(luma, cv2.CV_32F, NOISE_KERNEL)[::2, ::2]
    return float(np.median(np.abs(detail))) / 0.6745 / 6
