"""The driver's workers: made, listened to, and made anew when they are lost.

Comes in: how many workers are wanted, with a card and without. Goes out: what they say, as `(member, message)`. Every failure
of Ray's own is a lost member: which machine, process or object it was does not matter, since a stage is done again from its
artifacts. Nothing here knows of stages.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from wan2_i2v.cluster.worker import Outcome, Task, Worker
from wan2_i2v.errors import ClusterError
from wan2_i2v.events import Event
from wan2_i2v.stages.base import Stage

HEAR_SECONDS = 0.5
"""How often a busy worker is listened to, in a small crew."""
CALLS_PER_SECOND = 400
"""The most that all are: a driver makes some 1,500 calls of an actor per second."""
SILENCE_SECONDS = 600.0
"""How long a busy worker may not answer; loading a model from a slow disk can keep its interpreter busy."""

MOST_FAILED = 3
"""Workers in a row that may fail to start, as on a machine where something is missing, until no more are made."""


@dataclass(frozen=True)
class Said:
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Done:
    """A task ended. `parcel` is a reference to what it made."""

    outcome: Outcome
    parcel: Any


@dataclass(frozen=True)
class Lost:
    reason: str


@dataclass(eq=False)
class Member:
    """One worker. `ready` once it has greeted; `pool` is that of its last task; `errand` is what the owner gave with it."""

    handle: Any
    on_card: bool
    greeting: Any
    ready: bool = False
    pool: str = ""
    errand: Any = None
    work: tuple[Any, Any] | None = None
    hearing: Any = None
    heard: float = field(default_factory=time.monotonic)

    @property
    def is_free(self) -> bool:
        return self.ready and self.work is None


class Crew:
    """`stages` in place of the pipeline's own, where given. Members end with the process that made them."""

    def __init__(self, ray: Any, stages: Sequence[Stage] | None = None) -> None:
        self._ray, self._stages = ray, stages
        self.members: list[Member] = []
        self.stopping = False
        self._failed_starts: list[str] = []

    def tend(self, cards: int, checkers: int) -> None:
        """Make the workers that are missing. Raises ClusterError when none can start."""
        if len(self._failed_starts) > MOST_FAILED:
            if any(member.ready for member in self.members):
                return
            raise ClusterError(
                f"no worker of the cluster can start: {self._failed_starts[-1]} Look at `wan2-i2v cluster status`."
            )
        for on_card, wanted in ((True, cards), (False, checkers)):
            for _ in range(wanted - sum(member.on_card == on_card for member in self.members)):
                self.members.append(self._hired(on_card))

    def give(self, member: Member, task: Task, parcels: Sequence[Any], errand: Any) -> None:
        """Have a free member run a task; `parcels` are references."""
        member.errand, member.heard = errand, time.monotonic()
        member.work = tuple(member.handle.work.options(num_returns=2).remote(task, *parcels))

    def listen(self, seconds: float) -> Iterator[tuple[Member, Said | Done | Lost]]:
        """What was heard within so many seconds; less when something is heard earlier."""
        self._ask()
        waiting = {ref: member for member in self.members for ref in _refs(member)}
        if not waiting:
            time.sleep(seconds)
            return
        ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=seconds, fetch_local=False)
        if ready:
            ready, _ = self._ray.wait(list(waiting), num_returns=len(waiting), timeout=0, fetch_local=False)
        for ref in ready:
            member = waiting[ref]
            if member in self.members:
                message = self._heard(member, ref)
                if message is not None:
                    yield member, message
        now = time.monotonic()
        for member in list(self.members):
            if member.work is not None and now - member.heard > SILENCE_SECONDS:
                yield member, self.lose(member, f"it has not answered for {SILENCE_SECONDS:g} s")

    def lose(self, member: Member, reason: str) -> Lost:
        """Do without a member; what it was doing is void."""
        self.members.remove(member)
        self._ray.kill(member.handle)
        return Lost(reason)

    def dismiss(self) -> None:
        """End all members, and give their cards back."""
        for member in list(self.members):
            self.lose(member, "")

    def _hired(self, on_card: bool) -> Member:
        resources = {"num_gpus": 1, "num_cpus": 0} if on_card else {"num_gpus": 0, "num_cpus": 1}
        # What is lost is made anew here, where the job's artifacts are: Ray's own restarts know nothing of them.
        actor = self._ray.remote(max_restarts=0, max_task_retries=0, max_concurrency=2, **resources)(Worker)
        handle = actor.options(scheduling_strategy="SPREAD").remote(self._stages)
        return Member(handle, on_card, handle.greet.remote())

    def _ask(self) -> None:
        pause, now = max(HEAR_SECONDS, len(self.members) / CALLS_PER_SECOND), time.monotonic()
        for member in self.members:
            if member.work is not None and member.hearing is None and now - member.heard >= pause:
                member.hearing = member.handle.hear.remote(self.stopping)

    def _heard(self, member: Member, ref: Any) -> Said | Done | Lost | None:
        """One answer; None for a greeting."""
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            if getattr(error, "actor_init_failed", False):
                self._failed_starts.append(_last_line(error))
            return self.lose(member, _reason(error))
        member.heard = time.monotonic()
        if ref == member.greeting:
            member.greeting, member.ready = None, True
            self._failed_starts.clear()
            return None
        if ref == member.hearing:
            member.hearing = None
            return Said(answer)
        assert member.work is not None
        parcel, member.work = member.work[1], None
        return Done(answer, parcel)


def _refs(member: Member) -> list[Any]:
    found = [member.greeting, member.hearing, member.work[0] if member.work else None]
    return [ref for ref in found if ref is not None]


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _last_line(error: Exception) -> str:
    """Of a traceback: what was raised."""
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1]
