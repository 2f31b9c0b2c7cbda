"""Act on the verdict: several clips of one job, the best as its result; a failed one again with the remedy that its checks
name. Above the pipeline; imported by `api` and the process that owns the device.

Comes in: jobs, some of whose plans say best-of or retries. Goes out: one record per job, in order. Attempts are jobs of
their own in `attempts/1`, `attempts/2`, … of the job's folder, run together with all other jobs stage by stage, and kept.
The best one's frames become the job's video. Every clip is noted in the insights. Everything is decided from what is on disk, so a job that was stopped goes on
where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wan2_i2v import devices, measured, pipeline, places, planning, remedies
from wan2_i2v.errors import Cancelled, OutputError, Wan2I2VError, from_dict, translate
from wan2_i2v.events import Emit, Event, Finished, Log, ignore
from wan2_i2v.insights import noting
from wan2_i2v.models import catalog
from wan2_i2v.models.lora import choosing
from wan2_i2v.pictures import read_facts
from wan2_i2v.plan import JobPlan
from wan2_i2v.record import Attempt, Record, Remedy
from wan2_i2v.request import MAX_SEED, GenerateRequest
from wan2_i2v.stages import finish
from wan2_i2v.stages.base import Job
from wan2_i2v.workspace import Workspace

Run = Callable[..., list[Record]]
Draft = Callable[[GenerateRequest, JobPlan], JobPlan]


@dataclass(frozen=True)
class Engine:
    """What makes clips: `run` as `pipeline.run` does; `draft` plans an attempt for the picture and the weights of a plan."""

    run: Run
    draft: Draft


@dataclass(frozen=True)
class _Try:
    """One attempt: what was asked, why, and the job made of it. `record` once it ran."""

    number: int
    request: GenerateRequest
    remedy: Remedy | None
    job: Job
    record: Record | None = None

    @property
    def rank(self) -> tuple[float, int]:
        """Lower is better; a clip that does not exist is worse than any."""
        verified = self.record is not None and self.record.status == "done" and self.record.verification is not None
        assert self.record is not None
        return (
            remedies.score(self.record.verification) if verified and self.record.verification else float("inf"),
            self.number,
        )

    @property
    def passed(self) -> bool:
        record = self.record
        return record is not None and record.verification is not None and record.verification.passed


@dataclass
class _Family:
    """All attempts of one job."""

    job: Job
    request: GenerateRequest
    draft: Draft
    emit: Emit
    tries: list[_Try] = field(default_factory=list)
    ended: bool = False

    def wanted(self) -> list[_Try]:
        """The attempts to make next; none when the job is over."""
        if self.ended or places.finished(self.job.workspace):
            return []
        begun = len(self.tries)
        if begun < self.job.plan.best_of:
            # With a budget one after the other, so that what one takes is known before the next.
            more = self.job.plan.best_of - begun if self.job.plan.time_budget is None else 1
            asked: list[tuple[GenerateRequest, Remedy | None]] = [(self._seeded(begun + i), None) for i in range(more)]
        elif begun < self.job.plan.best_of + self.job.plan.retries and not self._best().passed:
            asked = [self._remedied()]
        else:
            return []
        if not self._fits():
            self._say(f"no further attempt: it would not fit into the time budget of {self.job.plan.time_budget:g} s")
            return []
        return self._planned(asked)

    def take(self, attempt: _Try, record: Record) -> None:
        self.tries.append(replace(attempt, record=record))

    def close(self) -> Record:
        """Make the best attempt the job's result and write its record."""
        before = self.job.workspace.load_record()
        if before is not None and places.finished(self.job.workspace):
            return before
        best = self._best()
        told = tuple(_told(one, chosen=one is best, first=self.tries[0].request) for one in self.tries)
        assert best.record is not None
        if best.record.status != "done":
            error: Wan2I2VError | None = from_dict(best.record.error or {"message": f"{best.record.job_id} failed"})
        else:
            error = self._publish(best.record, told)
        return finish.adopt(self.job, best.record, error, told)

    def _publish(self, best: Record, told: tuple[Attempt, ...]) -> Wan2I2VError | None:
        """Put the clip of `best` at the job's place; why that cannot be, if so."""
        try:
            finish.publish(self.job, best, told)
        except (Wan2I2VError, OSError) as error:
            return translate(error, f"placing the video of {self.job.plan.job_id}")
        return None

    def _best(self) -> _Try:
        return min(self.tries, key=lambda one: one.rank)

    def _seeded(self, offset: int) -> GenerateRequest:
        return self.request.replaced(seed=(self.job.plan.seed + offset) % (MAX_SEED + 1))

    def _remedied(self) -> tuple[GenerateRequest, Remedy | None]:
        best = self._best()
        verification = best.record.verification if best.record is not None else None
        remedy: Remedy = "next-seed" if verification is None else remedies.remedy_of(verification)
        tried = [one.remedy for one in self.tries if one.remedy is not None]
        seed = self._seeded(len(self.tries)).seed or 0
        return remedies.remedied(best.request, remedy, seed, tried), remedy

    def _fits(self) -> bool:
        budget = self.job.plan.time_budget
        spent = [sum(one.record.seconds.values()) for one in self.tries if one.record is not None]
        return budget is None or not spent or sum(spent) + max(spent) <= budget

    def _planned(self, asked: Sequence[tuple[GenerateRequest, Remedy | None]]) -> list[_Try]:
        """Attempts with their plans. One that cannot be planned (no memory for more guidance) ends the job's attempts."""
        planned: list[_Try] = []
        for request, remedy in asked:
            number = len(self.tries) + len(planned) + 1
            try:
                attempt = _Try(number, request, remedy, self._job(number, request))
            except (Wan2I2VError, OSError) as error:
                self._say(f"no further attempt: {error}")
                self.ended = True
                break
            if number > 1:
                changes = remedies.told(self.request.replaced(seed=self.job.plan.seed), request)
                self._say(f"attempt {number}: {remedy or 'another seed'} ({changes})", "info")
            planned.append(attempt)
        return planned

    def _job(self, number: int, request: GenerateRequest) -> Job:
        """The attempt's own folder and plan; the stored plan where it was begun before."""
        workspace = self.job.workspace.attempt(number)
        if workspace.plan.is_file():
            stored = workspace.load_plan()
            return Job(stored.model_copy(update={"model_files": self.job.plan.model_files}), workspace)
        base, folder = self.job.plan, workspace.root.absolute()
        alone = {"best_of": 1, "retries": 0, "time_budget": None, "job_id": None, "output": str(folder)}
        plan = self.draft(request.replaced(**alone), base)
        plan = plan.model_copy(update={"job_id": f"{base.job_id}-attempt-{number}"})
        workspace.create(None, plan)
        return Job(plan, workspace)

    def _say(self, text: str, level: str = "warning") -> None:
        self.emit(Log(self.job.plan.job_id, "info" if level == "info" else "warning", text))


def _drafted(request: GenerateRequest, base: JobPlan) -> JobPlan:
    """The plan of an attempt: for the picture, the weights and the device of the job's own plan."""
    assert base.model_files is not None
    model = catalog.again(base.model, base.model_files)
    device, picture = devices.detect(base.device), Path(base.image.path)
    facts, loras = read_facts(picture), choosing.choose(request, model)
    return planning.draft(request, facts, picture, model, device, base.seed, loras, table=measured.load())


def run(
    jobs: Sequence[Job],
    *,
    engine: Engine | None = None,
    emit: Emit = ignore,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Record]:
    """`engine.run`, this program's own without one, with as many attempts as the plans allow.

    Raises Cancelled as the pipeline does.
    """
    engine = engine or Engine(pipeline.run, _drafted)
    over = {index for index, job in enumerate(jobs) if places.finished(job.workspace)}
    found = [_family(job, engine.draft, emit) for job in jobs]
    families = {index: family for index, family in enumerate(found) if family is not None}
    plain = [index for index in range(len(jobs)) if index not in families]
    records: dict[int, Record] = {}
    while True:
        attempts = [(index, one) for index, family in families.items() for one in family.wanted()]
        if not attempts and not plain:
            break
        names = {one.job.plan.job_id: families[index].job.plan.job_id for index, one in attempts}
        batch = [*(jobs[index] for index in plain), *(one.job for _, one in attempts)]
        made = _run(engine, batch, names, emit, cancelled)
        records |= dict(zip(plain, made, strict=False))
        for (index, one), record in zip(attempts, made[len(plain) :], strict=True):
            families[index].take(one, record)
        plain = []
    for index, family in families.items():
        records[index] = family.close()
        done = records[index]
        emit(Finished(done.job_id, done.status, done.video or str((done.error or {}).get("message", ""))))
    _note({index: records[index] for index in records.keys() - over}, jobs, families, emit)
    return [records[index] for index in range(len(jobs))]


def _note(records: dict[int, Record], jobs: Sequence[Job], families: dict[int, _Family], emit: Emit) -> None:
    """Keep what was learned from each clip. Insights that cannot be written cost no job."""
    for index, record in sorted(records.items()):
        workspace, name = jobs[index].workspace, record.job_id
        clips: list[tuple[Record, Workspace, str | None]] = [(record, workspace, name)]
        if index in families:
            chosen = {one.number for one in record.attempts if one.chosen}
            tries = families[index].tries
            clips = [
                (one.record, one.job.workspace, name if one.number in chosen else None) for one in tries if one.record
            ]
        try:
            for clip in clips:
                noting.note(*clip)
        except OutputError as error:
            emit(Log(name, "warning", str(error)))


def _run(
    engine: Engine, batch: list[Job], names: dict[str, str], emit: Emit, cancelled: Callable[[], bool]
) -> list[Record]:
    """One pass of the engine, in which attempts speak in the name of their job."""

    def renamed(event: Event) -> None:
        name = names.get(event.job_id)
        if name is None:
            emit(event)
        elif not isinstance(event, Finished):
            emit(replace(event, job_id=name))

    try:
        return engine.run(batch, emit=renamed, cancelled=cancelled)
    except Cancelled as error:
        text = str(error)
        for attempt, name in names.items():
            text = text.replace(f"{attempt} was cancelled", f"{name} was cancelled")
        raise Cancelled(text) from None


def _family(job: Job, draft: Draft, emit: Emit) -> _Family | None:
    """The attempts of a job that may take several; None for any other."""
    if not job.plan.may_take_several or not job.workspace.request.is_file():
        return None
    asked = json.loads(job.workspace.request.read_text(encoding="utf-8"))
    return _Family(job, GenerateRequest(**(asked | {"image": job.plan.image.path})), draft, emit)


def _told(one: _Try, *, chosen: bool, first: GenerateRequest) -> Attempt:
    record = one.record
    assert record is not None
    verification = record.verification if record.status == "done" else None
    return Attempt(
        number=one.number,
        seed=one.job.plan.seed,
        remedy=one.remedy,
        changes="" if one.number == 1 else remedies.told(first, one.request),
        passed=one.passed,
        score=None if verification is None else remedies.score(verification),
        failures=() if verification is None else tuple(check.name for check in verification.failures),
        seconds=round(sum(record.seconds.values()), 3),
        video=record.video,
        error=record.error,
        chosen=chosen,
    )
