"""Hand planned jobs to a running service instead of loading a second copy of the weights. Used by `running`.

Comes in: orders. Goes out: their records, the videos at the places that the orders name, events for the progress bars.
A service is found by WAN2_I2V_URL, else by the lock file of the device that the jobs are planned for.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from wan2_i2v import places
from wan2_i2v.api import Order
from wan2_i2v.backends.ray import ELSEWHERE
from wan2_i2v.doors.cli.service_client import ServiceClient, patiently
from wan2_i2v.errors import Cancelled, InvalidRequest, OutputError, Wan2I2VError
from wan2_i2v.events import Emit, Progress, Started
from wan2_i2v.jobs.errors import JobConflict
from wan2_i2v.jobs.lock import url_of_owner
from wan2_i2v.media import metadata
from wan2_i2v.plan import ImageFacts
from wan2_i2v.record import Record, Verification
from wan2_i2v.settings import Settings
from wan2_i2v.workspace import replacing_folder, save_json

PLACES = {"image", "last_image", "model", "output", "job_id", "overwrite", "device", "backend", "comfyui_url"}
"""Fields of a request that the service decides for itself."""
LOOK_SECONDS = 5.0
"""How long without news of any job until each is looked at."""
GONE_SECONDS = 120.0
NAMES = 50
"""How many names are tried for a job whose name is taken at the service."""


@dataclass
class _Hand:
    """What was handed over: orders by the id that they have at the service, and how they ended."""

    orders: dict[str, Order] = field(default_factory=dict)
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, kind: str, data: dict[str, Any], emit: Emit) -> None:
        """One event of the service."""
        order = self.orders.get(str(data.get("job_id")))
        if order is None:
            return
        name = order.plan.job_id
        if kind == "progress" and data["done"] == 0:
            emit(Started(name, data["stage"], data["total"]))
        elif kind == "progress":
            emit(Progress(name, data["stage"], data["done"], data["total"]))
        elif kind == "state":
            self.look(data["job"])

    def look(self, job: dict[str, Any]) -> None:
        if job["state"] not in ("queued", "running"):
            self.ended[job["id"]] = job

    @property
    def waiting(self) -> list[str]:
        return [job_id for job_id in self.orders if job_id not in self.ended]


def url_for(orders: Sequence[Order]) -> str:
    """Where these jobs are to be made; empty when this process is to make them.

    Jobs that are gone on with belong to this process: their artifacts are here. So do jobs that are over.
    """
    if any(order.request is None for order in orders) or not any(map(_is_open, orders)):
        return ""
    # A service of a cluster owns the way to it, and no card of this machine.
    devices = {order.plan.device if order.plan.cluster is None else ELSEWHERE.name for order in orders}
    return Settings().url or (url_of_owner(devices.pop()) if len(devices) == 1 else "")


def run(
    url: str, orders: Sequence[Order], emit: Emit, cancelled: Callable[[], bool], *, rename: bool = False
) -> list[Record]:
    """Have the service at `url` make the jobs; one record per order, in order, the videos where the orders say.

    A job that this process has finished before is not made again. `rename`: a job whose name the service has given to
    another one gets the next free number.
    Raises Cancelled once `cancelled()` is true, and what the service refuses.
    """
    ending = threading.Event()
    events: SimpleQueue[tuple[str, dict[str, Any]]] = SimpleQueue()
    wanted = [_is_open(order) for order in orders]
    left = list(compress(orders, wanted))
    with contextlib.closing(ServiceClient(url)) as client:
        _check_model(client, left)
        client.watch(events, ending)
        try:
            hand = _submitted(client, left, rename)
            _wait(client, hand, events, emit, cancelled)
        finally:
            ending.set()
        made = iter([_fetched(client, order, hand.ended[job_id]) for job_id, order in hand.orders.items()])
    return [next(made) if open_ else _load(order) for order, open_ in zip(orders, wanted, strict=True)]


def _is_open(order: Order) -> bool:
    return not places.finished(order.workspace)


def _load(order: Order) -> Record:
    """The record of a job that is over."""
    record = order.workspace.load_record()
    assert record is not None
    return record


def _check_model(client: ServiceClient, orders: Sequence[Order]) -> None:
    """Raise InvalidRequest when a job wants another model than the service has."""
    has = client.ask("GET", "/api/info")["model"]
    for order in orders:
        if order.plan.model != has:
            raise InvalidRequest(
                "model", order.plan.model, f"{has}, which the service at {client.url} has", "Stop it to use another."
            )


def _submitted(client: ServiceClient, orders: Sequence[Order], rename: bool) -> _Hand:
    hand = _Hand()
    try:
        for order in orders:
            job = _submit(client, order, rename or (order.request is not None and order.request.job_id is None))
            hand.orders[job["id"]] = order
            hand.look(job)
    except Wan2I2VError:
        # All or nothing: what was accepted before the refusal is taken back.
        _cancel(client, hand.waiting)
        raise
    return hand


def _submit(client: ServiceClient, order: Order, rename: bool) -> dict[str, Any]:
    assert order.request is not None
    settings = order.request.model_dump(mode="json", exclude=PLACES, exclude_defaults=True)
    body = {"picture": _uploaded(client, order.plan.image), "settings": settings | {"seed": order.plan.seed}}
    if order.plan.last_image is not None:
        body["last_picture"] = _uploaded(client, order.plan.last_image)
    name = order.plan.job_id
    for number in range(1, NAMES):
        job_id = name if number == 1 else f"{name}-{number}"
        try:
            return dict(client.ask("POST", "/api/jobs", json=body | {"job_id": job_id}))
        except JobConflict:
            if not rename:
                raise
    raise JobConflict(f"the service at {client.url} has {NAMES} jobs named {name!r} already; give a --job-id.")


def _uploaded(client: ServiceClient, picture: ImageFacts) -> str:
    """The id that the service gives to a picture of this machine."""
    return str(client.ask("POST", "/api/pictures", content=Path(picture.path).read_bytes())["picture"])


def _wait(
    client: ServiceClient,
    hand: _Hand,
    events: SimpleQueue[tuple[str, dict[str, Any]]],
    emit: Emit,
    cancelled: Callable[[], bool],
) -> None:
    """Until all jobs have ended. A service that is restarted meanwhile is waited for."""
    quiet = 0.0
    while hand.waiting:
        if cancelled():
            _cancel(client, hand.waiting)
            raise Cancelled(f"cancelled at the service: {', '.join(hand.waiting)}.")
        try:
            kind, data = events.get(timeout=0.2)
        except Empty:
            quiet += 0.2
        else:
            hand.take(kind, data, emit)
            quiet = 0.0 if kind != "reset" else LOOK_SECONDS
        if quiet >= LOOK_SECONDS:
            quiet = 0.0
            for job_id in hand.waiting:
                hand.look(patiently(client, GONE_SECONDS, "GET", f"/api/jobs/{job_id}"))


def _cancel(client: ServiceClient, job_ids: Sequence[str]) -> None:
    for job_id in job_ids:
        # One that ended in this very moment is no longer there to be cancelled.
        with contextlib.suppress(JobConflict):
            client.ask("POST", f"/api/jobs/{job_id}/cancel")


def _fetched(client: ServiceClient, order: Order, job: dict[str, Any]) -> Record:
    """The record of an ended job, its video at the order's own place."""
    record = _record(client, order, job)
    if job["state"] != "done" or record.video is None:
        error = job["error"] or {"message": f"{job['id']} was {job['state']}"}
        return record.model_copy(update={"status": "failed", "video": None, "error": error})
    target = places.final_path(order.plan).absolute()
    if Path(record.video) == target and target.exists():
        # The service works in this very folder.
        return record
    target.parent.mkdir(parents=True, exist_ok=True)
    places.check_writable(order.plan)
    moved = record.model_copy(update={"video": str(target)})
    if target.exists() and not order.plan.overwrite:
        # A video of this very plan, or it would not be writable: it stays, whatever device made it.
        inside = metadata.read(target)["verification"]
        kept = moved.model_copy(update={"verification": Verification.model_validate(inside)})
        if not places.sidecar_path(target).exists():
            save_json(places.sidecar_path(target), kept)
        return kept
    try:
        if order.plan.container == "png":
            _download_frames(client, job, target, overwrite=order.plan.overwrite)
        else:
            client.download(job["links"]["video"], target, overwrite=order.plan.overwrite)
    except FileExistsError:
        raise OutputError(metadata.taken(target)) from None
    save_json(places.sidecar_path(target), moved)
    return moved


def _record(client: ServiceClient, order: Order, job: dict[str, Any]) -> Record:
    """What the service recorded; a job that never came that far has a record of its failure only."""
    try:
        told = client.ask("GET", job["links"]["record"])
    except Wan2I2VError:
        if job["state"] == "done":
            raise
        return Record(job_id=job["id"], status="failed", plan=order.plan, error=job["error"])
    return Record.model_validate(told)


def _download_frames(client: ServiceClient, job: dict[str, Any], target: Path, *, overwrite: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "frames.zip"
        client.download(job["links"]["video"], archive)
        with zipfile.ZipFile(archive) as frames, replacing_folder(target, overwrite=overwrite) as temporary:
            for info in frames.infolist():
                # Names only: an archive may not choose where its files go.
                with frames.open(info) as source, (temporary / Path(info.filename).name).open("wb") as copy:
                    shutil.copyfileobj(source, copy)
