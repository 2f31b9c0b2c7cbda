"""The Python door: requests in, plans or records out. Imported by users and by every other door.

`plan` looks, `generate` and `generate_many` do, `resume` goes on. Doors that must tell good requests from bad ones
before they run any use `prepare` and `run`. Importing this loads no torch; running a job does.
"""

from __future__ import annotations

import contextlib
import gc
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from wan2_i2v.backends.base import Wanted
from wan2_i2v.devices import HERE, Machine
from wan2_i2v.errors import InvalidRequest, JobNotFound, Wan2I2VError, from_dict, nearest, translate
from wan2_i2v.events import Emit, ignore
from wan2_i2v.plan import JobPlan
from wan2_i2v.record import Record
from wan2_i2v.request import GenerateRequest, describe_path
from wan2_i2v.settings import Settings
from wan2_i2v.workspace import Workspace

MAX_DRAWN_SEED = 2**32
"""Drawn seeds are short enough to type; any seed that a request allows can be given."""


@dataclass(frozen=True)
class Order:
    """A planned job with its folder. `request` is None for a job that is gone on with."""

    request: GenerateRequest | None
    plan: JobPlan
    workspace: Workspace


def never() -> bool:
    """The cancel flag of callers that never cancel."""
    return False


def draw_seed() -> int:
    return secrets.randbelow(MAX_DRAWN_SEED)


def plan(request: GenerateRequest) -> JobPlan:
    """What `generate` would do with `request`, every number of it. Loads no weights and writes nothing.

    Raises InvalidRequest, InvalidImage, CheckpointError, DeviceError, DoesNotFit or OutputError when it cannot work.
    """
    return _order(request, {}, runnable=False).plan


def prepare(
    requests: Sequence[GenerateRequest], *, rename: bool = False, runnable: bool = True, machine: Machine = HERE
) -> list[Order | Wan2I2VError]:
    """Plan every request, in order; what cannot work becomes its error, and the others stand.

    A `job_id` that a different job has is refused, or gets the next free number when `rename` is true.
    With `runnable` false, a model whose files are not all here is planned too, from what is known of it. A plan for
    another `machine` is to be looked at, not run.
    """
    taken: dict[str, JobPlan] = {}
    prepared: list[Order | Wan2I2VError] = []
    for request in requests:
        try:
            order = _order(request, taken, rename=rename, runnable=runnable, machine=machine)
        except (Wan2I2VError, OSError) as error:
            prepared.append(translate(error, f"planning {request.image}"))
            continue
        taken[order.plan.job_id] = order.plan
        prepared.append(order)
    return prepared


def run(orders: Sequence[Order], on_event: Emit | None = None, cancelled: Callable[[], bool] = never) -> list[Record]:
    """Run planned requests together, stage by stage; one record per order, in order, failures among them.

    Raises Cancelled once `cancelled()` is true: everything finished so far stays, and `resume` goes on from there.
    Raises InvalidRequest when a job is being run by another process, OutputError when the videos have no place to go.
    """
    with _without_collections():
        from wan2_i2v import backends, places
        from wan2_i2v.stages.base import Job

    places.check_writable(*(order.plan for order in orders))
    with contextlib.ExitStack() as locks:
        for order in orders:
            locks.enter_context(_held(order.workspace))
            _check_same(order)
            order.workspace.create(order.request, order.plan)
        return backends.run(
            [Job(order.plan, order.workspace) for order in orders], emit=on_event or ignore, cancelled=cancelled
        )


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """For importing torch and its relatives: what they make stays, and looking through it again and again took a sixth of
    the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def generate(
    request: GenerateRequest, on_event: Emit | None = None, cancelled: Callable[[], bool] | None = None
) -> Record:
    """Make one video. The record says where it is (`video`) and whether it passed its checks (`verification`).

    Raises Wan2I2VError, as the class that says what went wrong, when there is no video.
    """
    (record,) = generate_many([request], on_event, cancelled)
    return _successful(record)


def generate_many(
    requests: Sequence[GenerateRequest], on_event: Emit | None = None, cancelled: Callable[[], bool] | None = None
) -> list[Record]:
    """Make many videos with one load of each model; one record per request, in order.

    A request that cannot be planned raises before anything runs; a job that fails later is a record with
    `status` failed and its `error`, and the others go on.
    """
    orders: list[Order] = []
    for prepared in prepare(requests):
        if isinstance(prepared, Wan2I2VError):
            raise prepared
        orders.append(prepared)
    return run(orders, on_event, cancelled or never)


def resume(job: str | Path, on_event: Emit | None = None, cancelled: Callable[[], bool] | None = None) -> Record:
    """Go on with a job, named by its id or its folder, after the last artifact that it left.

    Raises JobNotFound for an unknown job, and what `generate` raises.
    """
    (record,) = run([reopen(job)], on_event, cancelled or never)
    return _successful(record)


def rate(job: str | Path, rating: int) -> None:
    """Note how much the video of a job is liked, from 1 to 5, in the insights. `job`: an id, a folder, or the video itself.

    Raises JobNotFound for an unknown job, InvalidRequest for one that has no video yet, OutputError where the insights
    cannot be written.
    """
    from wan2_i2v.insights import noting

    workspace = find_job(_made_by(job))
    record = workspace.load_record()
    if record is None or record.status != "done":
        raise InvalidRequest("job", str(job), "a job that made its video", f"Go on with: wan2-i2v resume {job}.")
    noting.rate(record, workspace, rating)


def reopen(job: str | Path) -> Order:
    """A job that was begun before, ready to `run`.

    Raises JobNotFound for an unknown job, InvalidRequest when its weights have changed since.
    """
    workspace = find_job(job)
    stored = _stored_plan(workspace)
    if stored is None:
        raise JobNotFound(f"{workspace.root} holds no plan.json; give a job id or the job's folder.")
    return Order(None, _relocated(stored), workspace)


def _made_by(job: str | Path) -> str | Path:
    """The folder of the job that made a video; what is no video that a job of this machine made comes back as it is."""
    video = describe_path(str(job)).absolute()
    jobs = Settings().jobs
    if not video.exists() or not jobs.is_dir():
        return job
    for folder in sorted(jobs.iterdir()):
        record = Workspace(folder).load_record()
        if record is not None and record.video is not None and Path(record.video).absolute() == video:
            return folder
    return job


def find_job(job: str | Path) -> Workspace:
    """The workspace of a job id or of a job's folder.

    Raises JobNotFound with the nearest known id.
    """
    for folder in (describe_path(str(job)), Settings().jobs / job):
        if (folder / "plan.json").is_file():
            return Workspace(folder)
    jobs = Settings().jobs
    known = [entry.name for entry in jobs.iterdir() if entry.is_dir()] if jobs.is_dir() else []
    hint = nearest(str(job), known) if known else f"There are no jobs in {jobs}."
    raise JobNotFound(f"no job {str(job)!r}. {hint}")


def _order(
    request: GenerateRequest,
    taken: dict[str, JobPlan],
    *,
    rename: bool = False,
    runnable: bool = True,
    machine: Machine = HERE,
) -> Order:
    """Plan one request under a job id that is free, or that stands for the very same plan. `taken` ids are not free."""
    from wan2_i2v import backends, pictures, places

    picture = pictures.find_picture(request.image, Settings().input).absolute()
    located = request
    if request.output:
        located = request.replaced(output=str(describe_path(request.output).absolute()))
    if request.last_image is not None:
        last = pictures.find_picture(request.last_image, Settings().input, "last_image").absolute()
        located = located.replaced(last_image=str(last))
    facts = pictures.read_facts(picture)
    wanted = Wanted(located, picture, facts, draw_seed(), runnable=runnable, machine=machine)
    draft = backends.of(request).draft(wanted)
    planned = _named(draft, explicit=request.job_id is not None and not rename, taken=taken)
    places.check_writable(planned)
    return Order(request, planned, _workspace(planned.job_id))


def _named(draft: JobPlan, *, explicit: bool, taken: dict[str, JobPlan]) -> JobPlan:
    """`draft` under the first id of name, name-2, name-3, … that no different job has; only name when `explicit`."""
    number = 1
    while True:
        job_id = draft.job_id if number == 1 else f"{draft.job_id}-{number}"
        candidate = draft.model_copy(update={"job_id": job_id})
        if job_id not in taken:
            stored = _stored_plan(_workspace(job_id))
            if stored is None or _same(stored, candidate):
                return candidate
        if explicit:
            raise _id_taken(job_id)
        number += 1


def _same(one: JobPlan, other: JobPlan) -> bool:
    """Whether two plans make the same video at the same place."""
    from wan2_i2v import places

    same_place = places.final_path(one).absolute() == places.final_path(other).absolute()
    return same_place and one.fingerprint() == other.fingerprint()


def _check_same(order: Order) -> None:
    """Raise InvalidRequest when, since planning, another process gave the job's folder to a different plan."""
    stored = _stored_plan(order.workspace)
    if stored is not None and not _same(stored, order.plan):
        raise _id_taken(order.plan.job_id)


def _id_taken(job_id: str) -> InvalidRequest:
    return InvalidRequest(
        "job_id", job_id, "a name that no different job has", f"Choose another, or: wan2-i2v resume {job_id}."
    )


def _stored_plan(workspace: Workspace) -> JobPlan | None:
    """The plan in a job's folder, None where there is none.

    Raises Wan2I2VError for a plan that is damaged or that another version of this package wrote.
    """
    if not workspace.plan.is_file():
        return None
    try:
        return workspace.load_plan()
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise Wan2I2VError(
            f"{workspace.plan} is damaged or of another version of this program ({problem}). Start the job anew under "
            "another --job-id."
        ) from error


def _relocated(stored: JobPlan) -> JobPlan:
    """The plan with the place of its model on this machine.

    Raises CheckpointError where it is not, InvalidRequest when the weights are not those that the job was begun with.
    """
    from wan2_i2v import backends
    from wan2_i2v.models.located import located

    if stored.comfyui is not None:
        return backends.moved(stored)
    return located(stored)


def _workspace(job_id: str) -> Workspace:
    return Workspace(Settings().jobs / job_id)


@contextlib.contextmanager
def _held(workspace: Workspace) -> Iterator[None]:
    """The job's folder, for this process alone. The operating system lets go of it when the process dies.

    Raises InvalidRequest when another process has it.
    """
    from filelock import FileLock, Timeout

    try:
        workspace.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(workspace.root / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise InvalidRequest(
            "job_id", workspace.root.name, "a job that no other process is running", "Wait for it, or choose another."
        ) from None
    except OSError as error:
        raise translate(error, f"making {workspace.root}") from error
    try:
        yield
    finally:
        lock.release()


def _successful(record: Record) -> Record:
    """The record of a job that made its video.

    Raises the recorded error otherwise.
    """
    if record.status != "done":
        raise from_dict(record.error or {"message": f"job {record.job_id} failed"})
    return record
