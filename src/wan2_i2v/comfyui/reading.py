"""A graph in ComfyUI's API format → what it makes, as fields of a request. Pure.

Comes in: a graph. Goes out: `Reading`. Nodes are followed back from the one that saves the video; what does not lead
there is left aside, and a node on the way that is not understood is named. Imported by `import-workflow`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from wan2_i2v import schedule
from wan2_i2v.comfyui.graph import ADVANCED, FIRST, FIRST_LAST, GGUF, MERGED, NAG, Graph, Node, unescaped
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.presets import RECIPES
from wan2_i2v.prompting import compose
from wan2_i2v.request import is_guided
from wan2_i2v.rows import Weights

PRIMITIVES = ("PrimitiveInt", "PrimitiveFloat", "PrimitiveString", "PrimitiveStringMultiline", "PrimitiveBoolean")
"""Nodes that hold one value, under the name `value`."""
WAN_SHIFT = 8.0
"""ComfyUI's flow shift for Wan where no ModelSamplingSD3 says another."""
DEFAULT_BOUNDARY = 0.9
PHASED = RECIPES["three-phase"]
"""The recipe whose first steps are taken without LoRAs: a sampler of their own, with the same expert as the next one's."""
MOST_RUNS = 3


@dataclass(frozen=True)
class Reading:
    """What a graph makes: `fields` of GenerateRequest without the model, and the names of the model's files."""

    fields: dict[str, Any]
    files: Weights


@dataclass(frozen=True)
class _Run:
    """One sampler: which steps it takes of how many, how, with which model."""

    steps: int
    begin: int
    end: int
    sampler: str
    scheduler: str
    cfg: float
    seed: int
    node_id: str


@dataclass(frozen=True)
class _Model:
    """A model's chain of nodes: its file, LoRAs in order, flow shift and NAG (scale, tau, alpha)."""

    file: str
    whole: bool
    loras: tuple[str, ...]
    shift: float
    nag: tuple[float, float, float] | None


def read(graph: Graph) -> Reading:
    """What the graph's one SaveVideo saves.

    Raises InvalidRequest that names the node or the input which is not understood, and what would be.
    """
    return _Reader(graph).read()


class _Reader:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def read(self) -> Reading:
        saving = [node_id for node_id, node in self.graph.items() if node["class_type"] == "SaveVideo"]
        if len(saving) != 1:
            raise InvalidRequest("workflow", f"{len(saving)} SaveVideo nodes", "exactly one")
        video = self._follow(saving[0], "video", "CreateVideo")
        images, cut = self._frames(video)
        decode = self._follow(*images, "VAEDecode", "VAEDecodeTiled")
        runs, start = self._runs(decode)
        models = [self._model(run.node_id) for run in runs]
        fields = self._clip(start, cut) | {"fps": self._number(video, "fps"), "container": "mp4"}
        fields |= self._sampling(runs, models)
        experts = list({model.file: model for model in models}.values())
        alone = len(experts) == 1 and self._is_high_alone(runs[0], models[0])
        positive, negative = (self._text(start, name) for name in ("positive", "negative"))
        fields |= {"prompt": positive} | self._negative(negative, runs, models)
        return Reading(fields, self._files(start, experts, high_alone=alone))

    def _frames(self, video: str) -> tuple[tuple[str, str], int | None]:
        """Where the decoder hangs (node and input), and how many frames are kept, None for all."""
        images = self._follow(video, "images", "VAEDecode", "VAEDecodeTiled", "ImageFromBatch")
        if self.graph[images]["class_type"] != "ImageFromBatch":
            return (video, "images"), None
        if self._number(images, "batch_index") != 0:
            raise self._refusal(images, "batch_index", "0: the clip begins with the first frame")
        return (images, "image"), int(self._number(images, "length"))

    def _clip(self, start: str, cut: int | None) -> dict[str, Any]:
        if self._number(start, "batch_size") != 1:
            raise self._refusal(start, "batch_size", "1")
        for name in ("clip_vision_output", "clip_vision_start_image", "clip_vision_end_image"):
            if name in self.graph[start]["inputs"]:
                raise self._refusal(start, name, "nothing: only pictures are understood")
        last = {}
        if "end_image" in self.graph[start]["inputs"]:
            last = {"last_image": self._picture(start, "end_image")}
        length = int(self._number(start, "length"))
        return last | {
            "image": self._picture(start, "start_image"),
            "width": int(self._number(start, "width")),
            "height": int(self._number(start, "height")),
            "num_frames": length if cut is None else min(cut, length),
        }

    def _picture(self, start: str, name: str) -> str:
        loader = self._follow(start, name, "LoadImage")
        return str(self._value(loader, "image")).removesuffix(" [input]")

    def _runs(self, decode: str) -> tuple[list[_Run], str]:
        """The samplers in the order in which they work, and the node that begins the latents."""
        runs: list[_Run] = []
        place = (decode, "samples")
        while True:
            node_id = self._follow(*place, *(() if len(runs) == MOST_RUNS else (ADVANCED, MERGED)), FIRST, FIRST_LAST)
            if self.graph[node_id]["class_type"] in (FIRST, FIRST_LAST):
                break
            runs.insert(0, self._run(node_id))
            place = (node_id, "latent_image")
        if not runs:
            raise InvalidRequest("workflow", "no sampler", "one KSampler, or KSamplerAdvanced one after the other")
        self._check_runs(runs)
        for run in runs:
            for name in ("positive", "negative"):
                self._follow(run.node_id, name, FIRST, FIRST_LAST)
        return runs, node_id

    def _run(self, node_id: str) -> _Run:
        advanced = self.graph[node_id]["class_type"] == ADVANCED
        steps = int(self._number(node_id, "steps"))
        if not advanced and self._number(node_id, "denoise") != 1:
            raise self._refusal(node_id, "denoise", "1")
        return _Run(
            steps,
            int(self._number(node_id, "start_at_step")) if advanced else 0,
            min(steps, int(self._number(node_id, "end_at_step"))) if advanced else steps,
            str(self._value(node_id, "sampler_name")),
            str(self._value(node_id, "scheduler")),
            self._number(node_id, "cfg"),
            int(self._number(node_id, "noise_seed" if advanced else "seed")),
            node_id,
        )

    def _check_runs(self, runs: Sequence[_Run]) -> None:
        """Raise InvalidRequest unless the samplers go through one list of sigmas, from noise to the end."""
        first, last = runs[0], runs[-1]
        for before, run in pairwise(runs):
            if run.begin != before.end:
                raise self._refusal(run.node_id, "start_at_step", f"{before.end}, where node {before.node_id} ends")
            for name in ("steps", "sampler", "scheduler"):
                if getattr(run, name) != getattr(first, name):
                    wanted = f"{getattr(first, name)!r}, as in node {first.node_id}"
                    raise InvalidRequest(f"node {run.node_id}, {name}", getattr(run, name), wanted)
        if first.begin != 0:
            raise self._refusal(first.node_id, "start_at_step", "0")
        if last.end < last.steps:
            raise self._refusal(last.node_id, "end_at_step", f"{last.steps} or more")
        for run in runs:
            if self.graph[run.node_id]["class_type"] == ADVANCED:
                wanted = "enable" if run is first else "disable"
                if self._value(run.node_id, "add_noise") != wanted:
                    raise self._refusal(run.node_id, "add_noise", wanted)

    def _model(self, sampler: str) -> _Model:
        """The chain of nodes before a sampler's model."""
        loras: list[str] = []
        shift = WAN_SHIFT
        nag: tuple[float, float, float] | None = None
        place = (sampler, "model")
        # No chain is longer than the graph: one that goes in a circle ends as well.
        known = ("UNETLoader", GGUF, "CheckpointLoaderSimple", "LoraLoaderModelOnly", "ModelSamplingSD3", NAG)
        for _ in self.graph:
            node_id = self._follow(*place, *known)
            kind = self.graph[node_id]["class_type"]
            if kind == "LoraLoaderModelOnly":
                strength = self._number(node_id, "strength_model")
                loras.insert(0, f"{self._value(node_id, 'lora_name')}:{strength!r}")
            elif kind == "ModelSamplingSD3":
                shift = self._number(node_id, "shift")
            elif kind == NAG:
                scale, tau, alpha = (self._number(node_id, f"nag_{name}") for name in ("scale", "tau", "alpha"))
                nag = (scale, tau, alpha)
            else:
                whole = kind == "CheckpointLoaderSimple"
                file = str(self._value(node_id, "ckpt_name" if whole else "unet_name"))
                return _Model(file, whole, tuple(loras), shift, nag)
            place = (node_id, "model")
        raise InvalidRequest("workflow", f"the model of node {sampler}", "a chain of nodes that begins with a loader")

    def _sampling(self, runs: Sequence[_Run], models: Sequence[_Model]) -> dict[str, Any]:
        first, last = runs[0], runs[-1]
        shift = models[0].shift
        if any(model.shift != shift for model in models):
            raise InvalidRequest("shift", [model.shift for model in models], "the same for both experts")
        if first.scheduler not in ("beta", "simple", "normal"):
            raise self._refusal(first.node_id, "scheduler", "beta, simple or normal")
        if first.sampler not in ("lcm", "euler"):
            raise self._refusal(first.node_id, "sampler_name", "lcm or euler")
        fields = {
            "sampler": first.sampler,
            "scheduler": first.scheduler,
            "flow_shift": shift,
            "num_inference_steps": first.steps,
            "seed": first.seed,
            "guidance_scale_high": first.cfg,
        }
        if len(runs) > 1 and models[0].file == models[1].file:
            fields |= self._phase(runs, models)
            runs, models = runs[1:], models[1:]
        if len(runs) > 2:
            raise InvalidRequest("workflow", f"{len(runs)} samplers of different models", "one or two experts")
        first = runs[0]
        if len(runs) == 1:
            alone = self._is_high_alone(first, models[0])
            return fields | (
                {"loras_high": models[0].loras, "boundary_ratio": 0.0} if alone else {"loras": models[0].loras}
            )
        fields |= {"guidance_scale_low": last.cfg, "loras_high": models[0].loras, "loras_low": models[1].loras}
        return fields | _boundary(schedule.sigmas(first.scheduler, shift, first.steps), first.end)

    def _phase(self, runs: Sequence[_Run], models: Sequence[_Model]) -> dict[str, Any]:
        """The recipe of a first sampler that shares its expert with the second one: without LoRAs, and alone with CFG."""
        plain, second = runs[0], runs[1]
        sigmas = schedule.sigmas(plain.scheduler, models[0].shift, plain.steps)
        assert PHASED.plain_from is not None
        steps = sum(sigma >= PHASED.plain_from for sigma in sigmas)
        if models[0].loras:
            raise InvalidRequest(f"node {plain.node_id}, model", models[0].loras, "no LoRA in the first of two phases")
        if plain.end != steps:
            raise self._refusal(plain.node_id, "end_at_step", f"{steps}, as in the recipe {PHASED.name}")
        if is_guided(second.cfg):
            raise self._refusal(second.node_id, "cfg", "1 after a phase of its own")
        return {"recipe": PHASED.name}

    def _is_high_alone(self, run: _Run, model: _Model) -> bool:
        """Whether a lone sampler is the high-noise expert's, which takes all steps, and no merged one's."""
        return self.graph[run.node_id]["class_type"] == ADVANCED and not model.whole

    def _negative(self, text: str, runs: Sequence[_Run], models: Sequence[_Model]) -> dict[str, Any]:
        """The negative prompt and NAG. Where speech was not kept from it, none is added."""
        for run, model in zip(runs, models, strict=True):
            if model.nag is not None and is_guided(run.cfg):
                raise self._refusal(run.node_id, "cfg", f"1: {NAG} acts in place of CFG")
        nags = [model.nag for run, model in zip(runs, models, strict=True) if not is_guided(run.cfg)] or [None]
        if any(nag != nags[0] for nag in nags):
            raise InvalidRequest(NAG, nags, "the same settings wherever no CFG acts")
        fields: dict[str, Any] = {"negative_prompt": text, "nag": nags[0] is not None}
        if nags[0] is not None:
            fields |= dict(zip(("nag_scale", "nag_tau", "nag_alpha"), nags[0], strict=True))
        evaluated = nags[0] is not None or any(run.cfg != 1 for run in runs)
        return fields | {"allow_speech": evaluated and bool(compose.missing(text))}

    def _files(self, start: str, models: Sequence[_Model], *, high_alone: bool) -> Weights:
        if models[0].whole:
            return Weights(checkpoint=models[0].file)
        vae = self._follow(start, "vae", "VAELoader")
        encode = self._follow(start, "positive", "CLIPTextEncode")
        text = self._follow(encode, "clip", "CLIPLoader")
        named = {"text_encoder": str(self._value(text, "clip_name")), "vae": str(self._value(vae, "vae_name"))}
        if len(models) == 1:
            return Weights(**{"high" if high_alone else "merged": models[0].file}, **named)
        return Weights(high=models[0].file, low=models[1].file, **named)

    def _text(self, start: str, name: str) -> str:
        encode = self._follow(start, name, "CLIPTextEncode")
        return unescaped(str(self._value(encode, "text")))

    def _follow(self, node_id: str, name: str, *classes: str) -> str:
        """The id of the node that an input hangs on, which must be of one of the classes."""
        link = self._input(node_id, name)
        if not isinstance(link, list):
            raise self._refusal(node_id, name, f"a link to {' or '.join(classes)}")
        found = self._node(str(link[0]), f"node {node_id}, {name}")
        if found["class_type"] not in classes:
            where = f"node {link[0]} ({found['class_type']})"
            wanted = f"{' or '.join(classes)} as {name} of node {node_id} ({self.graph[node_id]['class_type']})"
            raise InvalidRequest("workflow", where, wanted, "This node is not understood here.")
        return str(link[0])

    def _value(self, node_id: str, name: str) -> Any:
        """A literal value, or that of a primitive node."""
        value = self._input(node_id, name)
        if isinstance(value, list):
            return self._value(self._follow(node_id, name, *PRIMITIVES), "value")
        return value

    def _number(self, node_id: str, name: str) -> float:
        value = self._value(node_id, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._refusal(node_id, name, "a number")
        return value

    def _input(self, node_id: str, name: str) -> Any:
        node = self.graph[node_id]
        if name not in node["inputs"]:
            raise InvalidRequest(f"node {node_id} ({node['class_type']})", sorted(node["inputs"]), f"an input {name}")
        return node["inputs"][name]

    def _node(self, node_id: str, where: str) -> Node:
        if node_id not in self.graph:
            raise InvalidRequest(where, node_id, "the id of a node that is there")
        return self.graph[node_id]

    def _refusal(self, node_id: str, name: str, allowed: str) -> InvalidRequest:
        node = self.graph[node_id]
        return InvalidRequest(f"node {node_id} ({node['class_type']}), {name}", node["inputs"].get(name), allowed)


def _boundary(sigmas: Sequence[float], split: int) -> dict[str, float]:
    """The boundary that gives the first `split` steps to the high-noise expert; left out where the usual one does."""
    usual = sum(sigma >= DEFAULT_BOUNDARY for sigma in sigmas[:-1])
    if usual == split:
        return {}
    return {"boundary_ratio": (sigmas[split - 1] + sigmas[split]) / 2}
