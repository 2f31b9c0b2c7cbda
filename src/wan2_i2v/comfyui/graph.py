"""A plan as a graph in ComfyUI's API format. Pure.

Comes in: a `JobPlan` with its `comfyui` part, the name of the prepared picture in ComfyUI's input folder, a prefix for the
file to save. Goes out: node id → `{"class_type", "inputs"}`; an input is a value or `[node id, output's number]`.
Imported by the ComfyUI stage and `export-workflow`; `reading` undoes it.

Every pass of an expert (`Pass`) is a KSamplerAdvanced on one list of sigmas; one merged expert that takes all steps in one
is a KSampler. All get the plan's seed: ComfyUI draws each run's step noise from a generator of its own, and so does this
program.
"""

from __future__ import annotations

from typing import Any

from wan2_i2v import schedule
from wan2_i2v.comfyui.server import ServerPlan
from wan2_i2v.errors import InvalidRequest
from wan2_i2v.plan import JobPlan
from wan2_i2v.request import MAX_STEPS, is_guided
from wan2_i2v.schedule import Expert, Pass

Node = dict[str, Any]
Graph = dict[str, Node]
Link = list[Any]

NAG = "WanVideoNAG"
"""Of the node pack ComfyUI-KJNodes."""
GGUF = "UnetLoaderGGUF"
"""Of the node pack ComfyUI-GGUF."""
ADVANCED, MERGED = "KSamplerAdvanced", "KSampler"
SAMPLERS = (ADVANCED, MERGED)
FIRST, FIRST_LAST = "WanImageToVideo", "WanFirstLastFrameToVideo"

TILE, TILE_OVERLAP = 512, 64
"""Pixels of a tile of VAEDecodeTiled, ComfyUI's own defaults."""
LEAST_TEMPORAL, TEMPORAL_OVERLAP = 8, 8
"""VAEDecodeTiled's limits in frames."""


class _Graph:
    """Nodes as they are added, numbered from 1 as ComfyUI's editor does."""

    def __init__(self) -> None:
        self.nodes: Graph = {}

    def add(self, class_type: str, **inputs: Any) -> str:
        """The id of a new node."""
        node_id = str(len(self.nodes) + 1)
        self.nodes[node_id] = {"class_type": class_type, "inputs": inputs}
        return node_id


def build(plan: JobPlan, image: str, prefix: str, last_image: str = "") -> Graph:
    """The whole graph: from the files' loaders to SaveVideo, which is its only output.

    `image` and `last_image` are the prepared pictures, already of the video's size; the latter counts where the plan has
    one. Raises InvalidRequest for a plan that is not for ComfyUI.
    """
    server = plan.comfyui
    if server is None:
        raise InvalidRequest("backend", "local", "comfyui", "Plan the clip with --backend comfyui.")
    graph = _Graph()
    model, clip, vae = _sources(graph, server)
    positive: Link = [graph.add("CLIPTextEncode", clip=clip, text=escaped(plan.prompt)), 0]
    negative: Link = [graph.add("CLIPTextEncode", clip=clip, text=escaped(plan.negative_prompt)), 0]
    models = {taken: _expert(graph, plan, taken, model[taken.expert], negative) for taken in _passes(plan)}
    pictures: dict[str, Link] = {"start_image": [graph.add("LoadImage", image=image), 0]}
    if plan.last_image is not None:
        pictures["end_image"] = [graph.add("LoadImage", image=last_image), 0]
    size = {"width": plan.width, "height": plan.height, "length": plan.model_frames, "batch_size": 1}
    begin = FIRST_LAST if plan.last_image is not None else FIRST
    start = graph.add(begin, positive=positive, negative=negative, vae=vae, **size, **pictures)
    latents = _sampled(graph, plan, models, start)
    frames = _decoded(graph, plan, latents, vae)
    video = graph.add("CreateVideo", images=frames, fps=plan.fps)
    graph.add("SaveVideo", video=[video, 0], filename_prefix=prefix, format="auto", codec="auto")
    return graph.nodes


def escaped(text: str) -> str:
    """A prompt in which ComfyUI sees no weights: it reads `(word:1.2)` as one, and a backslash before a bracket as none."""
    return text.replace("(", "\\(").replace(")", "\\)")


def unescaped(text: str) -> str:
    """Undoes `escaped`."""
    return text.replace("\\(", "(").replace("\\)", ")")


def asked_steps(plan: JobPlan) -> int:
    """The number of steps of which ComfyUI makes the plan's sigmas: more than there are where `beta` drops repeats.

    Raises InvalidRequest where no number does.
    """
    wanted = tuple(round(sigma, 9) for sigma in plan.sigmas)
    for steps in range(len(plan.steps), MAX_STEPS + 1):
        if tuple(round(sigma, 9) for sigma in schedule.sigmas(plan.scheduler, plan.flow_shift, steps)) == wanted:
            return steps
    raise InvalidRequest("scheduler", plan.scheduler, "a schedule that ComfyUI knows: beta, simple or normal")


def samplers(graph: Graph) -> dict[str, int]:
    """Each sampler's node id and how many of the clip's steps are done when it begins."""
    found = {node_id: node for node_id, node in graph.items() if node["class_type"] in SAMPLERS}
    return {node_id: int(node["inputs"].get("start_at_step", 0)) for node_id, node in found.items()}


def output_node(graph: Graph) -> str:
    """The id of the node that saves the video."""
    return next(node_id for node_id, node in graph.items() if node["class_type"] == "SaveVideo")


def _passes(plan: JobPlan) -> tuple[Pass, ...]:
    return tuple(dict.fromkeys(step.taken_in for step in plan.steps))


def _sources(graph: _Graph, server: ServerPlan) -> tuple[dict[Expert, Link], Link, Link]:
    """Loaders: the model of each expert, the text encoder, the VAE."""
    files = server.files
    if files.checkpoint:
        whole = graph.add("CheckpointLoaderSimple", ckpt_name=files.checkpoint)
        return {"single": [whole, 0]}, [whole, 1], [whole, 2]
    text = graph.add("CLIPLoader", clip_name=files.text_encoder, type="wan", device="default")
    vae = graph.add("VAELoader", vae_name=files.vae)
    named: dict[Expert, str] = {"single": files.merged} if files.merged else {"high": files.high, "low": files.low}
    experts: dict[Expert, Link] = {expert: [_loader(graph, name), 0] for expert, name in named.items()}
    return experts, [text, 0], [vae, 0]


def _loader(graph: _Graph, name: str) -> str:
    if name.lower().endswith(".gguf"):
        return graph.add(GGUF, unet_name=name)
    return graph.add("UNETLoader", unet_name=name, weight_dtype="default")


def _expert(graph: _Graph, plan: JobPlan, taken: Pass, model: Link, negative: Link) -> Link:
    """An expert with the LoRAs of a pass, NAG where the plan has it and no CFG acts, and the flow shift."""
    for lora in plan.loras:
        if lora.expert == taken.expert and not taken.plain:
            loaded = graph.add("LoraLoaderModelOnly", model=model, lora_name=lora.path, strength_model=lora.strength)
            model = [loaded, 0]
    if plan.nag is not None and not is_guided(plan.steps[plan.span(taken).start].guidance_scale):
        settings = {"nag_scale": plan.nag.scale, "nag_alpha": plan.nag.alpha, "nag_tau": plan.nag.tau}
        model = [graph.add(NAG, model=model, conditioning=negative, **settings), 0]
    return [graph.add("ModelSamplingSD3", model=model, shift=plan.flow_shift), 0]


def _sampled(graph: _Graph, plan: JobPlan, models: dict[Pass, Link], start: str) -> Link:
    latents: Link = [start, 2]
    common = {"sampler_name": plan.sampler, "scheduler": plan.scheduler, "steps": asked_steps(plan)}
    conditioning = {"positive": [start, 0], "negative": [start, 1]}
    for taken, model in models.items():
        span = plan.span(taken)
        cfg = plan.steps[span.start].guidance_scale
        inputs = common | conditioning | {"model": model, "latent_image": latents, "cfg": cfg}
        if taken.expert == "single" and len(models) == 1:
            return [graph.add(MERGED, **inputs, seed=plan.seed, denoise=1.0), 0]
        first, last = span.start == 0, span.stop == len(plan.steps)
        sampler = graph.add(
            ADVANCED,
            **inputs,
            add_noise="enable" if first else "disable",
            noise_seed=plan.seed,
            start_at_step=span.start,
            end_at_step=span.stop,
            return_with_leftover_noise="disable" if last else "enable",
        )
        latents = [sampler, 0]
    return latents


def _decoded(graph: _Graph, plan: JobPlan, latents: Link, vae: Link) -> Link:
    """Frames: all of one tile's at once, so that no seam lies in time, and the model's surplus cut."""
    assert plan.comfyui is not None
    if plan.comfyui.tiled:
        length = max(LEAST_TEMPORAL, -(-plan.model_frames // 4) * 4)
        tiles = {"tile_size": TILE, "overlap": TILE_OVERLAP, "temporal_size": length}
        node = graph.add("VAEDecodeTiled", samples=latents, vae=vae, temporal_overlap=TEMPORAL_OVERLAP, **tiles)
    else:
        node = graph.add("VAEDecode", samples=latents, vae=vae)
    if plan.num_frames != plan.model_frames:
        node = graph.add("ImageFromBatch", image=[node, 0], batch_index=0, length=plan.num_frames)
    return [node, 0]
