"""The limits of all checks with what they were measured on, and the one place that builds a `Check`. A leaf.

`good` is the worst value on undamaged clips, `bad` the mildest on medium and strong damage, over two sets of ten pictures (160
good and 1380 damaged clips of `benchmarks/damage.py`): the one that the limits were chosen on, and the held-out one of
`benchmarks/results/artefacts.json`. For the mouth they are of the held-out faces of `mouth.json`: the mildest is an opening of 6 % that was
left unsure.
A `bad` below the limit is damage that is missed, such as fading colours in a picture of the night sky, or a pan back over sand.
A check fails above its limit; more is worse.
"""

from __future__ import annotations

from dataclasses import dataclass

from wan2_i2v.record import Check, Margin, Remedy, State

Spans = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Limit:
    """One check: fails above `fails`; unsure above `doubtful` where that is set."""

    name: str
    fails: float
    good: float | None
    bad: float | None
    remedy: Remedy | None = "next-seed"
    doubtful: float | None = None

    def check(self, value: float, good: str, bad: str, *, spans: Spans = ()) -> Check:
        """Judge `value`. `good` and `bad` are the sentences of the two outcomes."""
        failed = value > self.fails
        doubt = not failed and self.doubtful is not None and value > self.doubtful
        return self.built(value, not failed, bad if failed or doubt else good, "unsure" if doubt else "judged", spans)

    def unchecked(self, why: str) -> Check:
        """The check of something that could not be looked at."""
        return self.built(None, True, f"not checked: {why}", "unchecked", ())

    def built(self, value: float | None, passed: bool, message: str, state: State, spans: Spans) -> Check:
        """A check of this limit's name with its numbers rounded."""
        return Check(
            name=self.name,
            passed=passed,
            value=None if value is None else round(value, 3),
            limit=self.fails,
            message=message,
            state=state,
            margin=None if self.good is None or self.bad is None else Margin(good=self.good, bad=self.bad),
            spans=spans if not passed or state == "unsure" else (),
            remedy=None if passed else self.remedy,
        )


MOTION = Limit("motion", 1.7, 1.716, 2.897, "stronger-guidance", 1.0)
STILLNESS = Limit("stillness", 1.0, 0.158, 2.045)
FROZEN = Limit("frozen", 0.2, 0.0, 0.375)
DUPLICATES = Limit("duplicates", 0.12, 0.062, 0.0)
BLACK = Limit("black", 0.0, 0.0, 3.0)
BLANK = Limit("blank", 0.0, 0.0, 3.0)
FLICKER = Limit("flicker", 3.0, 0.988, 1.67, doubtful=1.5)
NOISE = Limit("noise", 1.0, 0.247, 0.741, "official-recipe")
CUT = Limit("cut", 1.9, 1.305, 2.192)
FLASH = Limit("flash", 2.5, 0.0, 5.232)
BLUR = Limit("blur", 0.6, 0.559, 0.562, "official-recipe", 0.5)
COLOUR_DRIFT = Limit("colour_drift", 5.0, 0.966, 2.276)
SATURATION_DRIFT = Limit("saturation_drift", 0.25, 0.08, 0.0)
BRIGHTNESS_DRIFT = Limit("brightness_drift", 5.0, 0.228, 1.709)
FADE_TO_WHITE = Limit("fade_to_white", 0.35, 0.005, 0.439)
FADE_TO_BLACK = Limit("fade_to_black", 0.35, 0.0, 0.376)
LOOP = Limit("loop", 0.65, 0.157, 0.0)
FIRST_FRAME = Limit("first_frame", 0.036, 0.002, 0.034, None)
MOUTH = Limit("mouth", 0.05, 0.014, 0.04, "mouth-negative", 0.035)
