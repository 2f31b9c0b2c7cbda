"""One trouble, one name: a check that failed only because of another one says so. Imported by `clip`."""

from __future__ import annotations

from collections.abc import Sequence

from wan2_i2v.record import Check

DRIFTS = ("colour_drift", "saturation_drift", "brightness_drift")

EXPLAINS: dict[str, tuple[str, ...]] = {
    "noise": (*DRIFTS, "fade_to_white", "fade_to_black", "duplicates", "loop", "cut", "blur", "mouth"),
    "black": (*DRIFTS, "frozen", "duplicates", "loop", "cut", "flash", "blur", "mouth"),
    "blank": (*DRIFTS, "frozen", "duplicates", "loop", "cut", "flash", "blur", "mouth"),
    "cut": ("loop", "mouth", "duplicates"),
    "flash": ("loop", "mouth", "duplicates"),
    "flicker": (*DRIFTS, "duplicates", "loop", "cut", "flash"),
    "frozen": ("duplicates", "cut", "flash"),
    "duplicates": ("cut", "flash"),
    "fade_to_white": ("blank", "blur", "colour_drift", "saturation_drift"),
    "fade_to_black": ("black", "blank", "blur", "colour_drift", "saturation_drift"),
    **{drift: tuple(other for other in DRIFTS if other != drift) for drift in DRIFTS},
}
"""Failure of the key brings failures of the values along: noise has other colours, after a black frame comes a cut, …"""

CLEAR_JUMP = 5.0
"""Change over the usual from which a cut or a flash is one; below, repeated frames make jumps between them."""
OUTWEIGHS = {
    ("saturation_drift", "colour_drift"): 0.25,
    ("colour_drift", "saturation_drift"): 4.0,
    ("brightness_drift", "saturation_drift"): 1.5,
    ("saturation_drift", "brightness_drift"): 1.5,
    ("colour_drift", "brightness_drift"): 1.4,
    ("brightness_drift", "colour_drift"): 1.0,
}
"""How much farther over its limit a drift has to be than another one to be its cause, measured on the ten pictures of the
benchmark: where colours burn out they shift a lot, a tint changes saturation little, light changes all."""


def explained(checks: Sequence[Check]) -> tuple[Check, ...]:
    """The checks, where those that follow from another failure no longer count as failures of their own.

    A check explains others by its own failure, whether or not that is explained in turn.
    """
    failed = {check.name: check for check in checks if not check.passed}
    return tuple(_softened(check, failed) for check in checks)


def _softened(check: Check, failed: dict[str, Check]) -> Check:
    causes = (name for name, results in EXPLAINS.items() if name in failed and check.name in results)
    cause = next((name for name in causes if _outweighs(failed[name], check)), None)
    if check.passed or cause is None:
        return check
    changes = {"passed": True, "state": "unsure", "message": f"{check.message} (follows from: {cause})", "remedy": None}
    return check.model_copy(update=changes)


def _outweighs(cause: Check, result: Check) -> bool:
    """Where two checks may each follow from the other, which one it is."""
    factor = OUTWEIGHS.get((cause.name, result.name))
    if factor is not None:
        return _share(cause) > factor * _share(result)
    if "duplicates" in (cause.name, result.name) and {cause.name, result.name} & {"cut", "flash"}:
        jump = cause if result.name == "duplicates" else result
        return (_number(jump.value) > CLEAR_JUMP) == (jump is cause)
    return True


def _share(drift: Check) -> float:
    return _number(drift.value) / max(_number(drift.limit), 1e-9)


def _number(value: float | str | None) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
