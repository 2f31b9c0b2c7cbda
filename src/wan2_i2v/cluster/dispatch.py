"""Jobs through the cluster: the driver's loop.

Comes in: planned jobs. Goes out: one record per job, in order. Pictures are prepared and videos placed here; everything between
is given to workers, one stage of one job at a time. Each artifact is written to the job's folder before the next stage is given
out, so that a lost worker costs its stage and a lost driver nothing that is finished: `resume` goes on, here or anywhere. Cards
are shared out anew whenever workers come or go, or a pool runs out of work; who has a pool's model open stays with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from wan2_i2v import pipeline, placement
from wan2_i2v.cluster import connection, parcels, rehearsal
from wan2_i2v.cluster.crew import Crew, Done, Lost, Member, Said
from wan2_i2v.cluster.storage import Storage
from wan2_i2v.cluster.way import Way
from wan2_i2v.cluster.worker import Outcome, Task
from wan2_i2v.errors import ClusterError, Wan2I2VError, from_dict, translate
from wan2_i2v.events import Emit, Log
from wan2_i2v.pipeline import Fate
from wan2_i2v.placement import VERIFY, pool_of
from wan2_i2v.record import Record
from wan2_i2v.settings import Settings
from wan2_i2v.stages import finish, preprocess
from wan2_i2v.stages.base import Context, Job

LISTEN_SECONDS = 0.2
COUNT_SECONDS = 1.0
"""How often the cluster is asked how many cards it has."""
WAIT_SECONDS = 30.0
"""How long without any worker until the user is told."""
STOP_SECONDS = 300.0
"""How long workers have to end their step when the jobs are cancelled."""
PARCEL_SECONDS = 300.0
MOST_LOST = 10
"""Workers that one stage of a job may lose; more of them, and the job is to blame."""


def run(jobs: Sequence[Job], *, emit: Emit, cancelled: Callable[[], bool]) -> list[Record]:
    """Take every job through all stages that it has not finished; a job that fails is recorded, the others go on.

    Raises Cancelled once `cancelled()` is true; all artifacts so far stay for a later run.
    """
    context = Context(emit, cancelled)
    fates = [Fate(job, job) for job in jobs]
    unfinished = pipeline.begin(fates)
    pipeline.walk(unfinished, (preprocess.STAGE,), context)
    records: dict[int, Record] = {}

    def settle(fate: Fate) -> None:
        pipeline.walk([fate], (finish.STAGE,), context)
        records[id(fate)] = pipeline.close(fate, emit)

    try:
        ray = connection.connect()
        Dispatch(ray, unfinished, context, settle).run(_crew(ray))
    except ClusterError as error:
        for fate in unfinished:
            fate.error = fate.error or error
    return [records[id(fate)] if id(fate) in records else pipeline.close(fate, emit) for fate in fates]


_CREWS: dict[tuple[str, str], Crew] = {}
"""This process's workers, by the session of Ray that they belong to: they stay for its next jobs, with their models open."""


def _crew(ray: Any) -> Crew:
    session = ray.get_runtime_context()
    return _CREWS.setdefault((session.gcs_address, session.get_job_id()), Crew(ray))


class Dispatch:
    """One run. `settle` is called once for each job that is over."""

    def __init__(self, ray: Any, fates: Sequence[Fate], context: Context, settle: Callable[[Fate], None]) -> None:
        self._ray, self._context, self._settle = ray, context, settle
        self._storage = Settings().cluster_storage
        self._ways: list[Way] = []
        for fate in fates:
            self._fetch(fate)
            self._ways.append(Way.of(fate))
        self._placed: object = None
        self._roles: dict[Member, frozenset[str]] = {}
        self._wanted, self._counted = (0, 0), -COUNT_SECONDS
        self._waiting_since: float | None = None

    def run(self, crew: Crew) -> None:
        """Until every job is over. Raises Cancelled, and ClusterError when the cluster itself is gone."""
        crew.stopping = False
        self._settle_those_over()
        try:
            while self._ways:
                if self._context.cancelled():
                    self._leave(crew)
                    self._context.checkpoint(self._ways[0].fate.job)
                crew.tend(*self._count())
                self._give_out(crew)
                self._say_waiting(crew)
                for member, message in crew.listen(LISTEN_SECONDS):
                    self._take(member, message, crew)
                self._settle_those_over()
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise ClusterError(f"the Ray cluster is gone: {reason} Start it again, then: wan2-i2v resume.") from error

    def _count(self) -> tuple[int, int]:
        """How many workers are wanted: one per card and no more than jobs, and enough without to look at what they make."""
        now = time.monotonic()
        if now - self._counted >= COUNT_SECONDS:
            has = self._ray.cluster_resources()
            cards = min(int(has.get("GPU", 0)), Settings().cluster_cards or len(self._ways), len(self._ways))
            work = placement.loads(time for way in self._ways for time in way.times())
            seconds = placement.bottleneck(work, placement.place(work, cards))
            looking = placement.checkers(work, seconds, int(has.get("CPU", 1)))
            self._wanted, self._counted = (cards, min(looking, len(self._ways))), now
        return self._wanted

    def _give_out(self, crew: Crew) -> None:
        free = [member for member in crew.members if member.is_free]
        ready = [(way, stage) for way in self._ways for stage in way.ready()] if free else []
        if not ready:
            return
        self._share_out(crew)
        for member in free:
            pools = self._roles.get(member, frozenset())
            mine = [one for one in ready if pool_of(one[1]) in pools]
            if mine:
                # All clips of the pool whose model is open, then the earliest stage: it has most to wait for it.
                chosen = min(mine, key=lambda one: (pool_of(one[1]) != member.pool, one[0].order.index(one[1])))
                ready.remove(chosen)
                self._give(crew, member, *chosen)

    def _share_out(self, crew: Crew) -> None:
        """Each worker's pools, anew when workers or the pools with work have changed."""
        able = [member for member in crew.members if member.ready]
        work = placement.loads(time for way in self._ways for time in way.times())
        state = (tuple(id(member) for member in able), tuple(load.pool for load in work))
        if state == self._placed:
            return
        self._placed = state
        cards = [member for member in able if member.on_card]
        self._roles = {member: frozenset({VERIFY}) for member in able if not member.on_card}
        for group in rehearsal.place([way.times() for way in self._ways], len(cards), len(able) - len(cards)):
            pools = frozenset(group.pools)
            cards.sort(key=lambda member: member.pool not in pools)
            self._roles |= dict.fromkeys(cards[: group.cards], pools)
            cards = cards[group.cards :]

    def _give(self, crew: Crew, member: Member, way: Way, stage: str) -> None:
        fate = way.fate
        refs = []
        for artifact in parcels.needs(stage):
            if artifact not in way.refs:
                parcel = parcels.pack(fate.job.workspace, fate.job.plan, artifact)
                if parcel:
                    way.refs[artifact] = self._ray.put(parcel)
            refs += [way.refs[artifact]] if artifact in way.refs else []
        member.pool = pool_of(stage)
        way.running.add(stage)
        task = Task(stage, fate.planned.plan, fate.job.plan.peaks, fate.recoveries, self._storage)
        crew.give(member, task, refs, (way, stage))

    def _take(self, member: Member, message: Said | Done | Lost, crew: Crew) -> None:
        if isinstance(message, Said):
            for event in message.events:
                self._context.emit(event)
            return
        if member.errand is None:
            return
        (way, stage), member.errand = member.errand, None
        way.running.discard(stage)
        if isinstance(message, Lost):
            self._again(way, stage, message.reason)
            return
        for event in message.outcome.events:
            self._context.emit(event)
        try:
            parcel = self._ray.get(message.parcel, timeout=PARCEL_SECONDS)
        except self._ray.exceptions.RayError as error:
            crew.lose(member, "")
            self._again(way, stage, f"what it made is lost with its machine ({type(error).__name__})")
            return
        self._keep(way, stage, message, parcel)

    def _keep(self, way: Way, stage: str, done: Done, parcel: parcels.Parcel) -> None:
        """Write what a stage made to the job's folder; only then is it done."""
        outcome, fate = done.outcome, way.fate
        _merge(fate, outcome)
        try:
            parcels.unpack(parcel, fate.job.workspace)
        except (OSError, Wan2I2VError) as error:
            fate.error = fate.error or translate(error, f"writing what {stage} of {way.name} made")
        if fate.error is None and not outcome.stopped:
            way.finish(stage, done.parcel)

    def _again(self, way: Way, stage: str, reason: str) -> None:
        """After a lost worker: the stage once more, from what is on the disk."""
        way.refs.clear()
        way.lost[stage] += 1
        told = f"a worker was lost while running {stage} of {way.name} ({reason})"
        if way.lost[stage] > MOST_LOST:
            way.fate.error = ClusterError(
                f"{told}, for the {way.lost[stage]}th time. Look at the cluster, then resume."
            )
            return
        self._context.emit(Log(way.name, "warning", f"{told}; it is done again"))

    def _settle_those_over(self) -> None:
        over = [way for way in self._ways if way.is_over]
        self._ways = [way for way in self._ways if not way.is_over]
        for way in over:
            self._settle(way.fate)

    def _leave(self, crew: Crew) -> None:
        """Let every worker end its step, and keep what it made."""
        crew.stopping, begin = True, time.monotonic()
        while any(way.running for way in self._ways) and time.monotonic() - begin < STOP_SECONDS:
            for member, message in crew.listen(LISTEN_SECONDS):
                self._take(member, message, crew)
        for member in [member for member in crew.members if member.work is not None]:
            crew.lose(member, "")

    def _fetch(self, fate: Fate) -> None:
        """What another driver's workers left in the second place and is not here."""
        if not self._storage:
            return
        try:
            for artifact in parcels.MAKES.values():
                if not parcels.pack(fate.job.workspace, fate.job.plan, artifact):
                    found = Storage(self._storage).load(fate.planned.plan, artifact)
                    parcels.unpack(found, fate.job.workspace)
        except (OSError, Wan2I2VError) as error:
            fate.error = fate.error or translate(error, f"fetching the artifacts of {fate.planned.plan.job_id}")

    def _say_waiting(self, crew: Crew) -> None:
        if any(member.ready for member in crew.members if member.on_card):
            self._waiting_since = None
            return
        now = time.monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
        elif now - self._waiting_since > WAIT_SECONDS:
            self._waiting_since = now
            free = self._ray.available_resources().get("GPU", 0)
            text = f"waiting for a card of the cluster: {free:g} of {self._ray.cluster_resources().get('GPU', 0):g} are free"
            self._context.emit(Log(self._ways[0].name, "warning", text))


def _merge(fate: Fate, outcome: Outcome) -> None:
    """What a worker did becomes part of the job's fate."""
    for stage, seconds in outcome.seconds.items():
        fate.seconds[stage] = fate.seconds.get(stage, 0.0) + seconds
    fate.peaks |= outcome.measured
    fate.recoveries = outcome.recoveries
    fate.job = replace(fate.job, plan=fate.job.plan.model_copy(update={"peaks": outcome.peaks}))
    if outcome.error is not None:
        fate.error = fate.error or from_dict(outcome.error)
