"""A ComfyUI server as a backend: what is planned for it, and its stages. Imported by `backends`.

The plan holds what ComfyUI will do and not what this program would: its samplers and schedulers, no memory plan, and NAG
only where the server has a node for it. The picture is prepared and the finished file checked here, as for any other.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wan2_i2v.backends.base import Wanted
from wan2_i2v.comfyui.client import ComfyUI
from wan2_i2v.comfyui.graph import NAG, build
from wan2_i2v.comfyui.inventory import Inventory
from wan2_i2v.comfyui.server import ServerPlan
from wan2_i2v.devices import DeviceFacts
from wan2_i2v.errors import ComfyUILost, InvalidRequest
from wan2_i2v.events import Emit
from wan2_i2v.plan import JobPlan, recipe_of
from wan2_i2v.record import Record
from wan2_i2v.request import GenerateRequest
from wan2_i2v.settings import Settings

if TYPE_CHECKING:
    from wan2_i2v.rows import ModelRow
    from wan2_i2v.stages.base import Job

ELSEWHERE = DeviceFacts("comfyui", "a ComfyUI server", 0, 0, "ComfyUI's own", is_elsewhere=True)
IN_PLACE_OF = {"unipc": "euler", "linear": "simple"}
"""ComfyUI's uni_pc leaves a sigma out, and it has no `linear`. Euler on `simple` is its own template for Wan; the sigmas of
`simple` and `linear` are equal to 0.001 before the shift."""
FPS = (1, 120)
"""What the node CreateVideo takes."""
FRESH_SECONDS = 10.0
"""How long what a server said of itself is believed, so that a list of many clips asks it once."""


class ComfyUIBackend:
    def draft(self, wanted: Wanted) -> JobPlan:
        """The plan, checked against what the server has.

        Raises InvalidRequest for what ComfyUI cannot do; when `wanted` is to be run, ComfyUILost when the server does not
        answer, CheckpointError or ComfyUIError, naming what it lacks. Otherwise these are warnings of the plan.
        """
        survey = _survey(_url(wanted.request), int(time.monotonic() / FRESH_SECONDS))
        if isinstance(survey, ComfyUILost) and wanted.runnable:
            raise survey
        plan = drafted(wanted, has_nag=not isinstance(survey, Inventory) or survey.has_node(NAG))
        if isinstance(survey, ComfyUILost):
            return _warned(plan, f"nothing was checked against the server: {survey}")
        plan = _tiled(plan, survey.memory())
        graph = build(plan, "picture.png", "video/clip")
        if wanted.runnable:
            survey.settled(graph)
            return plan
        return _warned(plan, *(f"the ComfyUI server lacks {one}" for one in survey.lacking(graph)))

    def run(self, jobs: Sequence[Job], *, emit: Emit, cancelled: Callable[[], bool]) -> list[Record]:
        from wan2_i2v import acting

        return acting.run(jobs, engine=acting.Engine(_run, _attempt), emit=emit, cancelled=cancelled)


def drafted(wanted: Wanted, *, has_nag: bool) -> JobPlan:
    """The plan as far as the server does not matter. `has_nag`: whether it has a node for NAG.

    Raises InvalidRequest for what ComfyUI cannot do.
    """
    from wan2_i2v import planning
    from wan2_i2v.models import catalog, elsewhere

    asked = wanted.request
    files = elsewhere.files_of(asked.model)
    # What is here of its files does not matter.
    model = replace(catalog.look(asked.model), files=None, fingerprint="")
    loras = elsewhere.loras(asked, merged=model.boundary_ratio is None)
    recipe = recipe_of(asked, model, loras)
    request = _translated(asked, model, recipe.sampler, recipe.scheduler)
    request = request.replaced(recipe=recipe.name, attention="auto", compile=False)
    if not has_nag:
        request = request.replaced(nag=False)
    plan = planning.draft(request, wanted.facts, wanted.picture, model, ELSEWHERE, wanted.seed, loras)
    server = ServerPlan(url=_url(asked), files=files)
    return _warned(plan.model_copy(update={"comfyui": server}), *_notes(asked, plan, has_nag=has_nag))


def _tiled(plan: JobPlan, memory_bytes: int) -> JobPlan:
    """The plan with a VAE that decodes in tiles, where the whole picture takes more than the server's memory."""
    from wan2_i2v import memory
    from wan2_i2v.models import catalog

    assert plan.comfyui is not None
    vae = memory.vae_of(catalog.look(plan.model), memory.STORED)
    needed = vae.decode_peak(plan.latent) * memory.MARGIN + memory.CONTEXT_BYTES
    server = plan.comfyui.model_copy(update={"tiled": 0 < memory_bytes < needed})
    return plan.model_copy(update={"comfyui": server})


def moved(stored: JobPlan) -> JobPlan:
    """A stored plan with the server where it is now: at WAN2_I2V_COMFYUI_URL, when that is set."""
    assert stored.comfyui is not None
    if "comfyui_url" not in Settings().model_fields_set:
        return stored
    server = stored.comfyui.model_copy(update={"url": Settings().comfyui_url.rstrip("/")})
    return stored.model_copy(update={"comfyui": server})


def _url(request: GenerateRequest) -> str:
    return (request.comfyui_url or Settings().comfyui_url).rstrip("/")


@lru_cache(maxsize=8)
def _survey(url: str, moment: int) -> Inventory | ComfyUILost:
    """What the server at `url` has; why it was not asked. `moment` makes the answer a new one after a while."""
    from wan2_i2v.models import elsewhere

    client = ComfyUI(url)
    try:
        client.system()
    except ComfyUILost as error:
        client.close()
        return error
    return Inventory(client, elsewhere.sources())


def _translated(request: GenerateRequest, model: ModelRow, sampler: str, scheduler: str) -> GenerateRequest:
    """The request with ComfyUI's sampler and scheduler in place of what a recipe says.

    Raises InvalidRequest for one that was asked for by name.
    """
    changes: dict[str, Any] = {}
    for field, default in (("sampler", sampler), ("scheduler", scheduler)):
        given = getattr(request, field)
        if given in IN_PLACE_OF:
            raise InvalidRequest(field, given, f"with --backend comfyui: {_others(field)}")
        changes[field] = given or IN_PLACE_OF.get(default, default)
    if not FPS[0] <= request.fps <= FPS[1]:
        raise InvalidRequest("fps", request.fps, f"with --backend comfyui: {FPS[0]} to {FPS[1]}")
    return request.replaced(**changes)


def _others(field: str) -> str:
    return "lcm or euler" if field == "sampler" else "beta, simple or normal"


def _notes(asked: GenerateRequest, plan: JobPlan, *, has_nag: bool) -> list[str]:
    """What is otherwise than it would be here."""
    told = []
    if plan.recipe == "official" and not (asked.sampler and asked.scheduler):
        told.append("ComfyUI makes the recipe official with euler and simple, in place of unipc and linear")
    evaluated = plan.uses_negative_prompt
    if asked.nag and not has_nag and not evaluated:
        told.append(
            "the ComfyUI server has no node for NAG (WanVideoNAG of ComfyUI-KJNodes): without CFG the negative prompt does "
            "nothing"
        )
    if asked.crf is not None and asked.container == "mp4":
        told.append("crf has no effect: ComfyUI encodes the mp4")
    return told


def _warned(plan: JobPlan, *warnings: str) -> JobPlan:
    return plan.model_copy(update={"warnings": (*plan.warnings, *warnings)})


def _run(jobs: Sequence[Job], *, emit: Emit, cancelled: Callable[[], bool]) -> list[Record]:
    from wan2_i2v import pipeline
    from wan2_i2v.stages import comfyui, finish, preprocess, verify

    stages = (preprocess.STAGE, comfyui.STAGE, verify.STAGE, finish.STAGE)
    return pipeline.run(jobs, stages=stages, emit=emit, cancelled=cancelled)


def _attempt(request: GenerateRequest, base: JobPlan) -> JobPlan:
    """The plan of another attempt: for the server, the model and the picture of `base`."""
    from wan2_i2v import pictures

    assert base.comfyui is not None
    picture = Path(base.image.path)
    last = None if base.last_image is None else base.last_image.path
    request = request.replaced(model=base.model, comfyui_url=base.comfyui.url, last_image=last)
    with contextlib.suppress(ComfyUILost):
        return ComfyUIBackend().draft(Wanted(request, picture, pictures.read_facts(picture), base.seed))
    # The stage waits for a server that is away.
    return drafted(Wanted(request, picture, pictures.read_facts(picture), base.seed), has_nag=base.nag is not None)
