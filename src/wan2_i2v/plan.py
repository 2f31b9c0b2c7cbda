"""From a sparse request to a complete plan: every default resolved, every number that will be used. Pure; no torch.

Comes in: a request, facts about the picture, a model row, facts about the device. Goes out: `JobPlan`, frozen,
printable, hashable, stored in the record. Refusals happen here, before any weight loads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from wan2_i2v import acceleration, advice, geometry, memory, notes, presets, schedule, timing
from wan2_i2v.acceleration import Attention
from wan2_i2v.comfyui.server import ServerPlan
from wan2_i2v.devices import DeviceFacts
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.eye.findings import PictureReport
from wan2_i2v.measured import Table
from wan2_i2v.placement import ClusterPlan, Frozen
from wan2_i2v.prompting import compose
from wan2_i2v.request import MAX_SIDE, Container, Crop, GenerateRequest, is_guided
from wan2_i2v.rows import ModelFiles, ModelRow
from wan2_i2v.schedule import Expert, Pass

Box = tuple[float, float, float, float]


class ImageFacts(Frozen):
    """What is known of the picture without decoding all of it. `width` and `height` are after EXIF orientation."""

    path: str
    sha256: str
    width: int
    height: int
    mode: str
    format: str
    has_alpha: bool
    animated_frames: int
    rotated: bool


class StepPlan(Frozen):
    """One denoise step: at noise level `sigma`, by `expert`, with CFG `guidance_scale` (1 is off).

    `plain` steps are taken without the job's LoRAs.
    """

    sigma: float
    timestep: float
    expert: Expert
    guidance_scale: float
    plain: bool = False

    @property
    def taken_in(self) -> Pass:
        return Pass(self.expert, self.plain)


class NagPlan(Frozen):
    """Normalized Attention Guidance in the steps without CFG: scale ≥ 1, tau ≥ 1, alpha in [0, 1]."""

    scale: float
    tau: float
    alpha: float


class LoraPlan(Frozen):
    """One LoRA file on one expert. `matched` and `unmatched` count its tensors, `bytes` are of those that act; `about` says
    it in words. `recipe` is what it was distilled for, empty for most."""

    expert: Expert
    path: str
    fingerprint: str
    strength: float
    matched: int
    unmatched: int
    bytes: int
    about: str
    recipe: str = ""


class JobPlan(Frozen):
    """Everything that will happen for one clip. Sizes in pixels, `fps` in 1/s, sigmas in [0, 1]."""

    job_id: str
    image: ImageFacts
    last_image: ImageFacts | None = None
    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_frames: int
    model_frames: int
    fps: float
    duration_s: float
    seed: int
    model: str
    model_files: ModelFiles | None
    model_fingerprint: str
    loras: tuple[LoraPlan, ...] = ()
    recipe: str
    sampler: str
    scheduler: str
    flow_shift: float
    boundary_ratio: float | None
    steps: tuple[StepPlan, ...]
    guidance: str
    nag: NagPlan | None
    allow_speech: bool = False
    added_negative: str = ""
    """What of `negative_prompt` the request did not say: mouth prevention."""
    best_of: int = 1
    retries: int = 0
    time_budget: float | None = None
    crop: Crop
    crop_box: Box | None = None
    """Left, top, right, bottom in pixels of the upright picture; None where `crop` says it all."""
    background: str
    container: Container
    crf: int
    output: str
    overwrite: bool
    device: str
    dtype: str
    attention: Attention = "sdpa"
    compiled: bool = False
    comfyui: ServerPlan | None = None
    """What a ComfyUI server is to be asked for; None where this program makes the clip itself."""
    cluster: ClusterPlan | None = None
    """The Ray cluster that makes the clip, with the same bytes as this machine would; None where this machine does."""
    peaks: tuple[memory.StagePeak, ...]
    times: tuple[timing.StageTime, ...] = ()
    warnings: tuple[str, ...]
    analysis: PictureReport | None = None

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The noise levels with the final 0.0."""
        return (*(step.sigma for step in self.steps), 0.0)

    @property
    def uses_negative_prompt(self) -> bool:
        """Whether any step evaluates the negative prompt, through CFG or NAG."""
        return self.nag is not None or any(is_guided(step.guidance_scale) for step in self.steps)

    @property
    def may_take_several(self) -> bool:
        """Whether more than one clip may be made for this one."""
        return self.best_of > 1 or self.retries > 0

    @property
    def latent(self) -> geometry.LatentShape:
        return geometry.latent_shape(self.model_frames, self.height, self.width)

    def span(self, taken: Pass) -> range:
        """The indices of the steps of one pass; contiguous, since sigmas descend."""
        mine = [index for index, step in enumerate(self.steps) if step.taken_in == taken]
        return range(mine[0], mine[-1] + 1) if mine else range(0)

    def strips(self, stage: str) -> int:
        """Into how many strips the VAE's picture is cut in `stage`."""
        return next((peak.strips for peak in self.peaks if peak.stage == stage), 1)

    def content(self) -> dict[str, object]:
        """What determines the video's bytes: the plan without names, places and estimates. JSON-ready."""
        places = ("job_id", "output", "overwrite", "model_files", "peaks", "times", "analysis", "cluster")
        hidden: Any = dict.fromkeys(places, True) | {
            "image": {"path"},
            "last_image": {"path"},
            "loras": {"__all__": {"path", "about"}},
        }
        # A LoRA on a server has no fingerprint: its name is all that is known of it.
        hidden |= {"comfyui": True} if self.comfyui is None else {"comfyui": {"url"}, "loras": {"__all__": {"about"}}}
        return self.model_dump(mode="json", exclude=hidden)

    def fingerprint(self) -> str:
        """SHA-256 of `content()`; equal plans make equal videos."""
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()


def suited(device: DeviceFacts, model: ModelRow) -> DeviceFacts:
    """The device with the numbers that a model is computed in there."""
    return replace(device, dtype="float32") if model.always_float32 else device


def plan_job(
    request: GenerateRequest,
    image: ImageFacts,
    model: ModelRow,
    device: DeviceFacts,
    seed: int,
    loras: Sequence[LoraPlan] = (),
    sight: advice.Sight = advice.NOTHING_SEEN,
    table: Table = memory.NOTHING_MEASURED,
) -> JobPlan:
    """Resolve `request` for this picture, model and device. `seed` is used when the request has none.

    `loras` are what became of the LoRAs that the request names; `sight` is what is in the picture and how texts are
    counted, without which the plan advises less and `--crop auto` takes the middle; `table` is what was measured on this
    device before: it corrects peaks and gives times.

    Raises InvalidRequest for values that cannot work together and DoesNotFit when no memory plan exists.
    """
    _check_last(request, sight.last_image)
    recipe = recipe_of(request, model, loras)
    width, height = _size(request, image, model)
    frames = geometry.model_frames(request.num_frames)
    steps = _steps(request, recipe, model)
    negative, added = _negative(request, steps)
    nag = _nag(request, steps, negative)
    clip = _clip(request, (width, height), steps, nag)
    device = suited(device, model)
    peaks = _peaks(replace(model, lora_bytes=_lora_bytes(loras)), clip, frames, device, steps, table)
    used_seed = seed if request.seed is None else request.seed
    draft = JobPlan(
        job_id=request.job_id or default_job_id(image, used_seed),
        image=image,
        last_image=sight.last_image,
        prompt=request.prompt,
        negative_prompt=negative,
        width=width,
        height=height,
        num_frames=request.num_frames,
        model_frames=frames,
        fps=request.fps,
        duration_s=request.num_frames / request.fps,
        seed=used_seed,
        model=model.name,
        model_files=model.files,
        model_fingerprint=model.fingerprint,
        loras=tuple(loras),
        recipe=recipe.name,
        sampler=request.sampler or recipe.sampler,
        scheduler=request.scheduler or recipe.scheduler,
        flow_shift=recipe.flow_shift if request.flow_shift is None else request.flow_shift,
        boundary_ratio=_boundary(request, model),
        steps=steps,
        guidance=notes.guidance(negative, steps, nag, timing.nag_cost(model, clip.shape)),
        nag=nag,
        allow_speech=request.allow_speech,
        added_negative=added,
        best_of=request.best_of,
        retries=request.retries,
        time_budget=request.time_budget,
        crop=request.crop,
        crop_box=_crop_box(request, image, (width, height), sight.picture),
        background=request.background,
        container=request.container,
        crf=_crf(request),
        output=request.output or "",
        overwrite=request.overwrite,
        device=device.name,
        dtype=device.dtype,
        attention=acceleration.attention(request.attention, device),
        compiled=acceleration.compiling(request.compile, device),
        peaks=peaks,
        times=() if device.is_elsewhere else timing.times(model, clip, peaks, device, table),
        warnings=(),
        analysis=sight.picture,
    )
    warnings = (*notes.warnings(request, draft, model), *advice.of_picture(draft), *advice.of_texts(draft, sight.count))
    return draft.model_copy(update={"warnings": warnings})


def recipe_of(request: GenerateRequest, model: ModelRow, loras: Sequence[LoraPlan]) -> presets.Recipe:
    """The recipe asked for, else the one that a LoRA was distilled for, else the model's own."""
    distilled = next((lora.recipe for lora in loras if lora.recipe), "")
    return presets.RECIPES[request.recipe or distilled or model.default_recipe]


def _lora_bytes(loras: Sequence[LoraPlan]) -> int:
    """The most that LoRAs add on one expert."""
    return max((sum(lora.bytes for lora in loras if lora.expert == one.expert) for one in loras), default=0)


def default_job_id(image: ImageFacts, seed: int) -> str:
    """`<picture's name>-<seed>`, letters, digits, '.', '_' and '-' only."""
    stem = image.path.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in stem).strip("._-")
    return f"{safe[:80] or 'job'}-{seed}"


def _check_last(request: GenerateRequest, last: ImageFacts | None) -> None:
    if last is not None and request.num_frames < 2:
        raise InvalidRequest("num_frames", request.num_frames, "at least 2 with a last picture")


def _crop_box(
    request: GenerateRequest, image: ImageFacts, size: tuple[int, int], seen: PictureReport | None
) -> Box | None:
    if request.crop != "auto":
        return None
    return advice.automatic_crop(seen, (image.width, image.height), size)


def _size(request: GenerateRequest, image: ImageFacts, model: ModelRow) -> tuple[int, int]:
    """Width and height. One that follows from the other and the picture's aspect has the limit of a given one."""
    size = geometry.choose_size((image.width, image.height), request.width, request.height, model.sizes)
    for name, given, derived in (("width", request.width, size[1]), ("height", request.height, size[0])):
        if derived > MAX_SIDE:
            other = "height" if name == "width" else "width"
            hint = f"The picture is {image.width}×{image.height}; give the {other} too, to crop it."
            raise InvalidRequest(name, given, f"a {name} that gives a {other} of at most {MAX_SIDE}", hint)
    return size


def _boundary(request: GenerateRequest, model: ModelRow) -> float | None:
    if model.boundary_ratio is None:
        if request.boundary_ratio is not None:
            raise InvalidRequest(
                "boundary_ratio", request.boundary_ratio, f"nothing: {model.name} is one merged expert", "Leave it out."
            )
        return None
    return model.boundary_ratio if request.boundary_ratio is None else request.boundary_ratio


def _steps(request: GenerateRequest, recipe: presets.Recipe, model: ModelRow) -> tuple[StepPlan, ...]:
    boundary = _boundary(request, model)
    high = recipe.guidance_scale_high if request.guidance_scale_high is None else request.guidance_scale_high
    low = recipe.guidance_scale_low if request.guidance_scale_low is None else request.guidance_scale_low
    scale: dict[Expert, float] = {"high": high, "single": high, "low": low}
    levels = schedule.sigmas(
        request.scheduler or recipe.scheduler,
        recipe.flow_shift if request.flow_shift is None else request.flow_shift,
        request.num_inference_steps or recipe.num_inference_steps,
    )
    steps = []
    for sigma in levels[:-1]:
        expert = schedule.expert_at(sigma, boundary)
        plain = recipe.plain_from is not None and expert != "low" and sigma >= recipe.plain_from
        # Of a recipe in phases only the plain steps follow the high expert's guidance.
        guided = plain or recipe.plain_from is None or expert == "low"
        steps.append(
            StepPlan(
                sigma=sigma,
                timestep=sigma * schedule.TRAIN_TIMESTEPS,
                expert=expert,
                guidance_scale=scale[expert] if guided else 1.0,
                plain=plain,
            )
        )
    return tuple(steps)


def _peaks(
    model: ModelRow, clip: timing.Clip, frames: int, device: DeviceFacts, steps: tuple[StepPlan, ...], table: Table
) -> tuple[memory.StagePeak, ...]:
    """Peaks of all stages, of passes without LoRAs too: those need no more than the same expert with them."""
    if device.is_elsewhere:
        return ()
    plain = {Pass(step.expert).stage: step.taken_in.stage for step in steps if step.plain}
    found = []
    for peak in memory.peaks(model, clip.shape, frames, device, guided=clip.texts > 1, table=table):
        found += [peak.model_copy(update={"stage": plain[peak.stage]})] if peak.stage in plain else []
        found.append(peak)
    return tuple(found)


def _negative(request: GenerateRequest, steps: tuple[StepPlan, ...]) -> tuple[str, str]:
    """The negative prompt with mouth prevention, and what was added; as given where speech is allowed or nothing would
    evaluate it."""
    given = request.negative_prompt
    evaluated = request.nag_acts or any(is_guided(step.guidance_scale) for step in steps)
    if request.allow_speech or not evaluated:
        return given, ""
    return compose.negative(given), compose.missing(given)


def _nag(request: GenerateRequest, steps: tuple[StepPlan, ...], negative: str) -> NagPlan | None:
    """NAG acts where there is a negative prompt and a step has no CFG to evaluate it."""
    unguided = any(not is_guided(step.guidance_scale) for step in steps)
    if not (request.nag_acts and negative.strip() and unguided):
        return None
    return NagPlan(scale=request.nag_scale, tau=request.nag_tau, alpha=request.nag_alpha)


def _clip(
    request: GenerateRequest, size: tuple[int, int], steps: tuple[StepPlan, ...], nag: NagPlan | None
) -> timing.Clip:
    """What the time estimate needs to know: CFG calls an expert twice, NAG makes one call a little longer."""
    calls = {}
    for taken in dict.fromkeys(step.taken_in for step in steps):
        guided = [is_guided(step.guidance_scale) for step in steps if step.taken_in == taken]
        unguided = len(guided) - sum(guided)
        calls[taken.stage] = timing.Calls(len(guided) + sum(guided), unguided if nag else 0)
    shape = geometry.latent_shape(geometry.model_frames(request.num_frames), size[1], size[0])
    texts = 1 + (nag is not None or any(is_guided(step.guidance_scale) for step in steps))
    return timing.Clip(shape, size[0] * size[1] * request.num_frames, texts, calls)


def _crf(request: GenerateRequest) -> int:
    limits = {"mp4": (18, 51), "webm": (30, 63)}
    default, top = limits.get(request.container, (0, 63))
    if request.crf is not None and request.crf > top:
        raise InvalidRequest("crf", request.crf, f"0 to {top} for {request.container}")
    return default if request.crf is None else request.crf
