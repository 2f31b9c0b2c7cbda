"""Prepared picture → clip, made by a ComfyUI server: upload, submit, watch, fetch. No model here.

Comes in: `prepared.png` and a plan with its `comfyui` part. Goes out: `comfyui.json`, the id at the server, written before
the graph is sent, so that a process which was killed finds its job there again; `comfyui.mp4`, as ComfyUI made it; the
clip. How a graph ended is always asked over HTTP: the websocket only tells how far it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from wan2_i2v import places
from wan2_i2v.comfyui import line, ticket
from wan2_i2v.comfyui.client import ComfyUI, Standing
from wan2_i2v.comfyui.graph import Graph, build, output_node, samplers
from wan2_i2v.comfyui.inventory import Inventory
from wan2_i2v.comfyui.line import Line, Message
from wan2_i2v.comfyui.ticket import Ticket
from wan2_i2v.errors import ComfyUIError, ComfyUILost, InvalidRequest, OutOfMemory
from wan2_i2v.events import Log, Preview
from wan2_i2v.media.adopting import adopt
from wan2_i2v.models import elsewhere
from wan2_i2v.plan import JobPlan
from wan2_i2v.stages.base import Context, Job, Stage

LISTEN_SECONDS = 0.5
LOOK_SECONDS = 5.0
"""How often the server is asked when it says nothing."""
GONE_SECONDS = 180.0
"""How long a server that does not answer is waited for: one that is restarted loads its nodes first."""
RESTARTS = 1
"""How often a job that the server forgot is submitted again."""
ENDINGS = ("execution_success", "execution_error", "execution_interrupted")
FILE_LISTS = ("images", "videos", "gifs")
"""Where nodes list the files that they saved; SaveVideo says images."""


class _Watch:
    """Turns what the server says of one graph into events."""

    def __init__(self, job: Job, context: Context, prompt_id: str, graph: Graph) -> None:
        self._job, self._context, self._prompt_id = job, context, prompt_id
        self._begins = samplers(graph)
        self._done = -1
        self._ahead = -1

    def take(self, message: Message) -> bool:
        """Whether the message says that the graph has ended."""
        if message.prompt_id not in ("", self._prompt_id):
            return False
        if message.kind == "progress":
            self._step(str(message.data.get("node")), message.data.get("value"))
        elif message.kind == "progress_state":
            for node_id, state in (message.data.get("nodes") or {}).items():
                if state.get("state") == "running":
                    self._step(str(node_id), state.get("value"))
        elif message.kind == "preview":
            self._preview(message.picture)
        return message.kind in ENDINGS or (message.kind == "executing" and message.data.get("node") is None)

    def standing(self, standing: Standing) -> None:
        if standing.state == "waiting" and standing.ahead != self._ahead:
            self._ahead = standing.ahead
            self._say(f"waits in ComfyUI's queue, {standing.ahead} before it")

    def _step(self, node_id: str, value: object) -> None:
        """A sampler has taken `value` steps of its part; other nodes count other things."""
        if node_id not in self._begins or not isinstance(value, (int, float)):
            return
        total = len(self._job.plan.steps)
        done = min(self._begins[node_id] + int(value), total)
        if done > max(self._done, 0):
            self._done = done
            self._context.progress(self._job, STAGE.name, done, total)

    def _preview(self, picture: bytes) -> None:
        png = line.as_png(picture)
        if png is not None:
            self._context.emit(Preview(self._job.plan.job_id, max(self._done, 0) + 1, png))

    def _say(self, text: str) -> None:
        self._context.emit(Log(self._job.plan.job_id, "info", text))


def _run(client: ComfyUI, job: Job, context: Context) -> None:
    if not job.workspace.fetched.exists():
        standing = _ended(client, job, context)
        _fetch(client, job, context, standing)
    clip = places.clip_path(job.workspace, job.plan)
    try:
        adopt(job.workspace.fetched, clip, places.clip_format(job.plan))
    except InvalidRequest as error:
        job.workspace.fetched.unlink()
        raise ComfyUIError(f"the video that ComfyUI at {client.url} made is damaged: {error}") from error
    job.workspace.fetched.unlink()
    context.progress(job, STAGE.name, len(job.plan.steps), len(job.plan.steps))


def _ended(client: ComfyUI, job: Job, context: Context) -> Standing:
    """How the job ended at the server, successfully: where it is already, else submitted.

    Raises ComfyUIError when it failed there or was forgotten, OutOfMemory when memory ran out there.
    """
    mine = _taken_up(client, job)
    listener = uuid.uuid4().hex if mine is None else mine.client_id
    with contextlib.closing(Line(client.url, listener)) as socket:
        # Before anything is sent, so that nothing that is said of it is missed.
        socket.open()
        for chance in range(RESTARTS + 1):
            mine = mine or _submitted(client, job, listener)
            standing = _awaited(client, job, context, mine, socket)
            if standing.state != "unknown":
                return _successful(client, job, standing)
            mine = None
            if chance < RESTARTS:
                text = f"ComfyUI at {client.url} no longer knows this job, as after a restart: it is submitted again"
                context.emit(Log(job.plan.job_id, "warning", text))
    raise ComfyUIError(
        f"ComfyUI at {client.url} forgot {job.plan.job_id} {RESTARTS + 1} times: it was restarted, or ended while it "
        f"worked. Its own log says why. Then: wan2-i2v resume {job.workspace.root}"
    )


def _taken_up(client: ComfyUI, job: Job) -> Ticket | None:
    """The ticket of an earlier run whose graph the server still has or has finished; None when it is to be sent."""
    mine = ticket.load(job.workspace.comfyui)
    if mine is None or mine.url != client.url:
        return None
    return mine if client.look(mine.prompt_id).state in ("waiting", "running", "done") else None


def _submitted(client: ComfyUI, job: Job, listener: str) -> Ticket:
    name = _uploaded(client, job.workspace.prepared)
    last = "" if job.plan.last_image is None else _uploaded(client, job.workspace.prepared_last)
    version = str(client.system().get("system", {}).get("comfyui_version", "unknown"))
    mine = Ticket.new(client.url, listener, version)
    prefix = f"video/{job.plan.job_id}-{mine.prompt_id[:8]}"
    graph = Inventory(client, elsewhere.sources()).settled(build(job.plan, name, prefix, last))
    # Before it is sent: whatever happens from here on, the next run can ask for it.
    ticket.save(job.workspace.comfyui, mine)
    given = client.submit(graph, mine.prompt_id, mine.client_id)
    if given != mine.prompt_id:
        mine = mine.model_copy(update={"prompt_id": given})
        ticket.save(job.workspace.comfyui, mine)
    return mine


def _uploaded(client: ComfyUI, picture: Path) -> str:
    """A picture's name at the server: made of its content, so that two never meet under one."""
    content = picture.read_bytes()
    return client.upload(content, f"wan2-i2v-{hashlib.sha256(content).hexdigest()[:16]}.png")


def _awaited(client: ComfyUI, job: Job, context: Context, mine: Ticket, socket: Line) -> Standing:
    """Follow a submitted graph until it is over or unknown.

    Raises Cancelled when the user asked to stop, after the server was told; ComfyUIError when the server stays away.
    """
    watch = _Watch(job, context, mine.prompt_id, build(job.plan, "", ""))
    heard = time.monotonic()
    look_at = 0.0
    doubts = 0
    while True:
        _check_cancelled(client, job, context, mine)
        message = socket.next(LISTEN_SECONDS)
        ended = message is not None and watch.take(message)
        if not ended and time.monotonic() < look_at:
            continue
        look_at = time.monotonic() + LOOK_SECONDS
        try:
            standing = client.look(mine.prompt_id)
        except ComfyUILost as error:
            if time.monotonic() - heard > GONE_SECONDS:
                raise _gone(job, error) from None
            continue
        heard = time.monotonic()
        doubts = doubts + 1 if standing.state == "unknown" else 0
        if standing.is_over or doubts > 1:
            while not ended and (message := socket.next(LISTEN_SECONDS)) is not None:
                # What was said before the end and is still on its way.
                ended = watch.take(message)
            return standing
        watch.standing(standing)
        if ended or doubts:
            # An end is said a moment before it stands in the history.
            look_at = time.monotonic() + LISTEN_SECONDS


def _gone(job: Job, error: ComfyUILost) -> ComfyUIError:
    return ComfyUILost(
        f"{error} It has not answered for {GONE_SECONDS:g} s. What it is doing is not lost: wan2-i2v resume "
        f"{job.workspace.root} asks for it."
    )


def _check_cancelled(client: ComfyUI, job: Job, context: Context, mine: Ticket) -> None:
    if not context.cancelled():
        return
    try:
        client.cancel(mine.prompt_id)
    except ComfyUIError as error:
        text = f"ComfyUI could not be told to stop, and may go on with {mine.prompt_id}: {error}"
        context.emit(Log(job.plan.job_id, "warning", text))
    context.checkpoint(job)


def _successful(client: ComfyUI, job: Job, standing: Standing) -> Standing:
    failure = standing.failure
    if standing.state == "done":
        return standing
    text = f"ComfyUI at {client.url} did not make {job.plan.job_id}: {failure}"
    if failure is not None and failure.is_out_of_memory:
        client.free()
        raise OutOfMemory(text)
    hint = "" if failure is not None and failure.interrupted else " Its log says more."
    raise ComfyUIError(f"{text}.{hint} Make it again: wan2-i2v resume {job.workspace.root}")


def _fetch(client: ComfyUI, job: Job, context: Context, standing: Standing) -> None:
    """Download the video, waiting for a server that is away.

    Raises ComfyUIError when the server says that it is done and names no file.
    """
    node = standing.outputs.get(output_node(build(job.plan, "", ""))) or {}
    files = [file for kind in FILE_LISTS for file in node.get(kind) or []]
    if not files:
        job.workspace.comfyui.unlink(missing_ok=True)
        raise ComfyUIError(
            f"ComfyUI at {client.url} says that {job.plan.job_id} is done and names no file. Its log says more. Make it "
            f"again: wan2-i2v resume {job.workspace.root}"
        )
    begin = time.monotonic()
    while True:
        try:
            client.download(files[0], job.workspace.fetched)
            return
        except ComfyUILost as error:
            if time.monotonic() - begin > GONE_SECONDS:
                raise _gone(job, error) from None
            context.checkpoint(job)
            time.sleep(LISTEN_SECONDS)
        except ComfyUIError:
            # It was made and is gone: another run has to make it again.
            job.workspace.comfyui.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _connected(plan: JobPlan) -> Iterator[ComfyUI]:
    """The server, for all jobs that it makes."""
    assert plan.comfyui is not None
    with contextlib.closing(ComfyUI(plan.comfyui.url)) as client:
        yield client


def _url(plan: JobPlan) -> str:
    return "" if plan.comfyui is None else plan.comfyui.url


STAGE = Stage(
    name="comfyui",
    run=_run,
    done=lambda job: places.clip_path(job.workspace, job.plan).exists() or places.finished(job.workspace),
    steps=lambda plan: len(plan.steps),
    model=_connected,
    shares=_url,
)
