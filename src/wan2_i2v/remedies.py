"""What to change when a clip failed a check, and which of several clips is the best. A leaf, pure.

Comes in: verifications, requests. Goes out: the remedy that a failed check names, the request changed by it, a score.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from wan2_i2v.presets import RECIPES
from wan2_i2v.record import Check, Remedy, Verification
from wan2_i2v.request import GenerateRequest, is_guided

ORDER: tuple[Remedy, ...] = ("official-recipe", "stronger-guidance", "mouth-negative", "next-seed")
"""Where failed checks name several remedies, the first of these: noise spoils a clip more than a mouth that moves."""

NAG_STEP, MOST_NAG = 1.5, 50.0
CFG_FIRST, CFG_STEP, MOST_CFG = RECIPES["official"].guidance_scale_high, 1.4, 10.0

OF_SAMPLING = (
    *("sampler", "scheduler", "flow_shift", "num_inference_steps", "boundary_ratio"),
    *("guidance_scale_high", "guidance_scale_low"),
)
"""Fields that a recipe fills; another recipe is whole only when none of them is set beside it."""

PER_FAILURE, PER_DOUBT = 10.0, 0.25
MOST_PER_CHECK = 3.0


def remedy_of(verification: Verification) -> Remedy:
    """What the failed checks name; the next seed where none names anything."""
    named = {check.remedy for check in verification.failures}
    return next((remedy for remedy in ORDER if remedy in named), "next-seed")


def remedied(request: GenerateRequest, remedy: Remedy, seed: int, tried: Collection[Remedy]) -> GenerateRequest:
    """The request changed by a remedy. The seed stays, so that only the remedy acts, unless it is one that was `tried`
    before: then it is made stronger, and the seed is `seed` as well."""
    changes: dict[str, Any] = _changes(request, remedy)
    if remedy == "next-seed" or remedy in tried:
        changes["seed"] = seed
    return request.replaced(**changes)


def _changes(request: GenerateRequest, remedy: Remedy) -> dict[str, Any]:
    if remedy == "mouth-negative":
        return {"nag": True, "nag_scale": min(MOST_NAG, request.nag_scale * NAG_STEP), "allow_speech": False}
    if remedy == "stronger-guidance":
        high = request.guidance_scale_high
        off = high is None or not is_guided(high)
        return {"guidance_scale_high": CFG_FIRST if off or high is None else min(MOST_CFG, high * CFG_STEP)}
    if remedy == "official-recipe":
        return {"recipe": "official"} | dict.fromkeys(OF_SAMPLING)
    return {}


def told(before: GenerateRequest, after: GenerateRequest) -> str:
    """What differs between two requests, in words: `seed 7 → 8, nag_scale 11 → 16.5`."""
    fields = [name for name in GenerateRequest.model_fields if getattr(before, name) != getattr(after, name)]
    return ", ".join(f"{name} {_shown(getattr(before, name))} → {_shown(getattr(after, name))}" for name in fields)


def _shown(value: object) -> str:
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def score(verification: Verification) -> float:
    """How far a clip is from good, lower is better: failures count most, then doubts, then how near the limits it is.

    Only checks whose value is worse the higher it is take part in the last: those that come with a measured margin, or
    name a remedy.
    """
    near = [_nearness(check) for check in verification.checks if check.state != "unchecked"]
    doubts = sum(check.state == "unsure" for check in verification.checks)
    mean = sum(near) / len(near) if near else 0.0
    return round(PER_FAILURE * len(verification.failures) + PER_DOUBT * doubts + mean, 4)


def _nearness(check: Check) -> float:
    if check.margin is None or not isinstance(check.value, int | float) or not isinstance(check.limit, int | float):
        return 0.0
    return (
        min(MOST_PER_CHECK, float(check.value) / max(float(check.limit), 1e-9)) if check.limit else float(check.value)
    )
