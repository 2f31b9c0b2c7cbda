"""One trouble, one name: a check that failed only because of another one says so. Imported by `clip`."""

from __future__ import annotations

from collections.abc import Sequence

from wan2_i2v.record import Check

DRIFTS = ("colour_drift", "saturation_drift", "brightness_drift")

EXPLAINS: dict[str, tuple[str, ...]] = {
    "noise": (*DRIFTS, "fade_to_white", "fade_to_black", "duplicates", "loop", "cut", "blur", "mouth"),
    "black": ("frozen", "duplicates", "loop", "cut", "flash", "blur", "mouth"),
    "blank": ("frozen", "duplicates", "loop", "cut", "flash", "blur", "mouth"),
    "cut": ("loop", "mouth"),
    "flash": ("loop", "mouth"),
    "flicker": (*DRIFTS, "duplicates", "loop", "cut", "flash"),
    "frozen": ("duplicates", "cut", "flash"),
    "duplicates": ("cut", "flash"),
    "fade_to_white": ("blank", "blur", "colour_drift", "saturation_drift"),
    "fade_to_black": ("black", "blank", "blur", "colour_drift", "saturation_drift"),
}
"""Failure of the key brings failures of the values along: noise has other colours, after a black frame comes a cut, …"""


def explained(checks: Sequence[Check]) -> tuple[Check, ...]:
    """The checks, where those that follow from another failure no longer count as failures of their own.

    A check explains others by its own failure, whether or not that is explained in turn.
    """
    failed = {check.name for check in checks if not check.passed}
    return tuple(_softened(check, failed) for check in checks)


def _softened(check: Check, failed: set[str]) -> Check:
    cause = next((name for name, results in EXPLAINS.items() if name in failed and check.name in results), None)
    if check.passed or cause is None:
        return check
    changes = {"passed": True, "state": "unsure", "message": f"{check.message} (follows from: {cause})", "remedy": None}
    return check.model_copy(update=changes)
