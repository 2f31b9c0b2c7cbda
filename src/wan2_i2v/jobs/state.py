"""The states of a job and every legal way between them, in one table. A pure module; store and doors import it.

queued ──claim──▶ running ──finish──▶ done
  ▲  │cancel        │ fail ▶ failed ─┐
  │  ▼              │ cancel ▶ cancelled
  │ cancelled       │ expire ▶ timed_out ─┤
  │  expire         │ give_up ▶ set_aside ┤
  └─── release ─────┘                     │
  └─────────────── retry ─────────────────┘
"""

from __future__ import annotations

from typing import Literal, get_args

from wan2_i2v.jobs.errors import JobConflict

State = Literal["queued", "running", "done", "failed", "cancelled", "timed_out", "set_aside"]
Move = Literal["claim", "finish", "fail", "cancel", "expire", "give_up", "release", "retry"]

STATES: tuple[State, ...] = get_args(State)
MOVES: tuple[Move, ...] = get_args(Move)

TRANSITIONS: dict[tuple[State, Move], State] = {
    ("queued", "claim"): "running",
    ("queued", "cancel"): "cancelled",
    ("queued", "expire"): "timed_out",
    ("running", "finish"): "done",
    ("running", "fail"): "failed",
    ("running", "cancel"): "cancelled",
    ("running", "expire"): "timed_out",
    ("running", "give_up"): "set_aside",
    ("running", "release"): "queued",
    ("failed", "retry"): "queued",
    ("timed_out", "retry"): "queued",
    ("set_aside", "retry"): "queued",
}

TERMINAL: frozenset[State] = frozenset(("done", "failed", "cancelled", "timed_out", "set_aside"))


def after(state: State, move: Move, job_id: str = "the job") -> State:
    """The state after `move`.

    Raises JobConflict, which lists the states that allow it, for a move that the table does not have.
    """
    try:
        return TRANSITIONS[state, move]
    except KeyError:
        allowed = ", ".join(before for before, name in TRANSITIONS if name == move)
        raise JobConflict(f"{job_id} is {state}; {move} is possible when a job is {allowed}.") from None
