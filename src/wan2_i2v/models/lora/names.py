"""Names inside LoRA files: which layer of the transformer a stored tensor belongs to, and in which role.

Comes in: stored names of any trainer. Goes out: roles grouped by layer, and diffusers' name of the layer. No torch.
Styles in use: kohya and musubi-tuner (`lora_unet_blocks_0_self_attn_q.lora_down.weight`), diffusers and PEFT
(`transformer.blocks.0.attn1.to_q.lora_A.weight`), ComfyUI and LightX2V
(`diffusion_model.blocks.0.self_attn.q.lora_down.weight`, with `.diff` and `.diff_b` beside), and bare original names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wan2_i2v.models.formats.keys import original_module

ROLES = {
    ".lora_down.weight": "down",
    ".lora_A.weight": "down",
    ".lora_A.default.weight": "down",
    ".lora.down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_B.weight": "up",
    ".lora_B.default.weight": "up",
    ".lora.up.weight": "up",
    ".lora_B.bias": "up_bias",
    ".alpha": "alpha",
    ".diff": "diff",
    ".diff_b": "bias",
}
"""What a stored tensor is by the end of its name; `up_bias` is PEFT's `lora_bias`, scaled like the branch itself."""

PREFIXES = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer_2.",
    "transformer.",
    "lora_unet_",
    "lora_transformer_",
)

OTHER_KINDS = {
    ".dora_scale": "a DoRA",
    ".lora_magnitude_vector": "a DoRA",
    ".lokr_w": "a LoKr adapter",
    ".hada_w": "a LoHa adapter",
}
"""Adapters that change the base weights in other ways than a LoRA does; ignoring those tensors would act wrongly."""

FOREIGN = {
    "double_blocks": "Flux or HunyuanVideo",
    "single_transformer_blocks": "Flux",
    "joint_blocks": "Stable Diffusion 3",
    "down_blocks": "a Stable Diffusion UNet",
    "input_blocks": "a Stable Diffusion UNet",
    "lora_te": "a Stable Diffusion text encoder",
    "transformer_blocks": "another transformer (LTX, Qwen-Image, CogVideoX)",
}


@dataclass(frozen=True)
class Grouped:
    """The tensors of a file by layer as it names them: layer → role → stored name. `unknown` fit no role."""

    layers: dict[str, dict[str, str]]
    unknown: tuple[str, ...]


def group(names: Iterable[str]) -> Grouped:
    """Sort stored names into layers and roles."""
    layers: dict[str, dict[str, str]] = {}
    unknown = []
    for name in sorted(names):
        end = next((end for end in ROLES if name.endswith(end)), None)
        if end is None:
            unknown.append(name)
        else:
            layers.setdefault(name.removesuffix(end), {})[ROLES[end]] = name
    return Grouped(layers, tuple(unknown))


def style(names: Iterable[str]) -> str:
    """The key style of a file in words, for reports and errors."""
    first = sorted(names)[0]
    if first.startswith(("lora_unet_", "lora_te", "lora_transformer_")):
        return "kohya"
    if first.startswith(("transformer.", "transformer_2.", "base_model.")):
        return "diffusers"
    return "ComfyUI" if first.startswith(("diffusion_model.", "model.diffusion_model.")) else "bare"


def bare(layer: str) -> str:
    """A layer's name without the trainer's prefixes."""
    for prefix in PREFIXES:
        layer = layer.removeprefix(prefix)
    return layer.lstrip("_")


class LayerNames:
    """Looks layers up by any of their names: diffusers', the original, and both with underscores for dots."""

    def __init__(self, parameters: Iterable[str]) -> None:
        layers = {name.removesuffix(".weight").removesuffix(".bias") for name in parameters}
        self._known: dict[str, str] = {}
        for layer in layers:
            for known in (layer, original_module(layer) or layer):
                self._known |= {known: layer, known.replace(".", "_"): layer}

    def find(self, layer: str) -> str | None:
        """diffusers' name of the layer (or bare parameter) that a file calls `layer`, None when there is none."""
        return self._known.get(bare(layer))


def made_for(names: Iterable[str]) -> str | None:
    """The model that foreign names speak of, None when they are no known model's."""
    listed = list(names)
    return next((model for mark, model in FOREIGN.items() if any(mark in name for name in listed)), None)


def other_kind(names: Iterable[str]) -> str | None:
    """What a file is that is no plain LoRA, None for one that is."""
    listed = list(names)
    return next((kind for mark, kind in OTHER_KINDS.items() if any(mark in name for name in listed)), None)
