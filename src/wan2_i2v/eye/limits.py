"""The limits of all checks with what they were measured on, and the one place that builds a `Check`. A leaf.

`good` is the worst value on undamaged clips, `bad` the mildest on clips that have to be found (medium and strong damage)
in `benchmarks/artefacts.py` and `benchmarks/mouth.py`, whose results are in `benchmarks/results`. A check fails above its
limit; values are arranged so that more is worse.
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
    good: float
    bad: float
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
            margin=Margin(good=self.good, bad=self.bad),
            spans=spans if not passed or state == "unsure" else (),
            remedy=None if passed else self.remedy,
        )


MOTION = Limit("motion", 1.0, 0.0, 0.0, "stronger-guidance", 0.4)
STILLNESS = Limit("stillness", 1.0, 0.0, 0.0)
FROZEN = Limit("frozen", 0.2, 0.0, 0.0)
DUPLICATES = Limit("duplicates", 0.12, 0.0, 0.0)
BLACK = Limit("black", 0.0, 0.0, 0.0)
BLANK = Limit("blank", 0.0, 0.0, 0.0)
FLICKER = Limit("flicker", 1.5, 0.0, 0.0)
NOISE = Limit("noise", 3.0, 0.0, 0.0, "official-recipe")
CUT = Limit("cut", 2.5, 0.0, 0.0)
FLASH = Limit("flash", 2.5, 0.0, 0.0)
BLUR = Limit("blur", 0.5, 0.0, 0.0, "official-recipe", 0.45)
COLOUR_DRIFT = Limit("colour_drift", 4.0, 0.0, 0.0)
SATURATION_DRIFT = Limit("saturation_drift", 0.25, 0.0, 0.0)
BRIGHTNESS_DRIFT = Limit("brightness_drift", 5.0, 0.0, 0.0)
FADE_TO_WHITE = Limit("fade_to_white", 0.35, 0.0, 0.0)
FADE_TO_BLACK = Limit("fade_to_black", 0.35, 0.0, 0.0)
LOOP = Limit("loop", 0.65, 0.0, 0.0)
FIRST_FRAME = Limit("first_frame", 0.15, 0.0, 0.0, None, 0.1)
MOUTH = Limit("mouth", 0.05, 0.0, 0.0, "mouth-negative", 0.035)
