"""How each kind of model shows in its names and shapes, and what to get instead of a wrong one. No torch.

`KINDS` is data: one row per kind, tried in order, the first match names the file. Used by `identify` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]

EXPERTS = (
    "the Wan2.2 I2V A14B high-noise and low-noise experts (wan2.2_i2v_high_noise_14B_*, wan2.2_i2v_low_noise_14B_*)"
)
UMT5 = "the UMT5-XXL encoder (umt5_xxl_fp8_e4m3fn_scaled.safetensors, or the text_encoder folder)"
VAE = "the Wan 2.1 VAE (wan_2.1_vae.safetensors, or the vae folder)"


@dataclass(frozen=True)
class Kind:
    """One kind of model. `part` is set for what this package runs, `instead` for what it does not."""

    slug: str
    title: str
    matches: Callable[[Shapes], bool]
    part: str | None = None
    instead: str = ""


def _has(*fragments: str) -> Callable[[Shapes], bool]:
    """True when every fragment occurs in some name."""
    return lambda shapes: all(any(fragment in name for name in shapes) for fragment in fragments)


def _either(*tests: Callable[[Shapes], bool]) -> Callable[[Shapes], bool]:
    return lambda shapes: any(test(shapes) for test in tests)


def side(shapes: Shapes, end: str, axis: int) -> int:
    """One side of the first weight whose name ends so, 0 when there is none."""
    found = next((shape for name, shape in sorted(shapes.items()) if name.endswith(end)), ())
    return found[axis] if len(found) > axis else 0


def _wan(test: Callable[[Shapes], bool]) -> Callable[[Shapes], bool]:
    wan = _either(_has("patch_embedding.weight", ".self_attn.q."), _has("patch_embedding.weight", ".attn1.to_q."))
    return lambda shapes: wan(shapes) and test(shapes)


def _channels(count: int) -> Callable[[Shapes], bool]:
    return _wan(lambda shapes: side(shapes, "patch_embedding.weight", 1) == count)


def _unet(context: int) -> Callable[[Shapes], bool]:
    """A Stable Diffusion UNet by the width of the text that its cross-attention reads."""
    return lambda shapes: (
        _either(_has("input_blocks.0.0."), _has("down_blocks.0.", "mid_block.", "conv_in."))(shapes)
        and side(shapes, "attn2.to_k.weight", 1) == context
    )


def _per_layer_positions(shapes: Shapes) -> bool:
    """UMT5 has a position table in every block, T5 and mT5 only in the first; one block: by its vocabulary."""
    blocks = {name.split(".layer.")[0] for name in shapes if ".SelfAttention.q." in name and "decoder" not in name}
    tables = [name for name in shapes if name.endswith("relative_attention_bias.weight") and "decoder" not in name]
    return len(tables) == len(blocks) and (len(blocks) > 1 or side(shapes, "shared.weight", 0) != T5_VOCABULARY)


T5_VOCABULARY = 32128

_T5 = _has("SelfAttention.relative_attention_bias")

LORA_MARKS = (".lora_down.", ".lora_up.", ".lora_A.", ".lora_B.", ".lora.down.", "lora_unet_", "lora_transformer_")

LORA = Kind(
    "lora",
    "a LoRA",
    lambda shapes: any(name.endswith((".diff", ".diff_b")) or any(m in name for m in LORA_MARKS) for name in shapes),
    part="lora",
)

KINDS: tuple[Kind, ...] = (
    Kind(
        "adapter", "a LyCORIS (LoKr/LoHa) adapter", _either(_has(".lokr_w1"), _has(".hada_w1")), instead="a plain LoRA"
    ),
    Kind("wan-vace", "a Wan VACE model", _wan(_has("vace_blocks.")), instead=EXPERTS),
    Kind("wan-animate", "Wan2.2 Animate", _wan(_has("face_adapter.")), instead=EXPERTS),
    Kind("wan-s2v", "Wan2.2 speech-to-video", _wan(_has("audio_injector.")), instead=EXPERTS),
    Kind("wan-control", "a Wan camera-control model", _wan(_has("control_adapter.")), instead=EXPERTS),
    Kind(
        "wan2.1-i2v",
        "a Wan 2.1 image-to-video model with a CLIP image branch",
        _either(_wan(_has("img_emb.")), _wan(_has("image_embedder."))),
        instead=EXPERTS,
    ),
    Kind("wan2.2-i2v-a14b", "a Wan2.2 I2V A14B expert", _channels(36), part="transformer"),
    Kind("wan-t2v", "a Wan text-to-video model", _channels(16), instead=EXPERTS),
    Kind("wan2.2-ti2v-5b", "Wan2.2 TI2V-5B", _channels(48), instead=EXPERTS),
    Kind("wan-other", "another Wan model", _wan(lambda shapes: True), instead=EXPERTS),
    Kind(
        "wan2.2-vae",
        "the Wan 2.2 VAE of TI2V-5B (48 latent channels)",
        _either(_has("downsamples.0.downsamples.0."), lambda shapes: side(shapes, "post_quant_conv.weight", 0) == 48),
        instead=VAE,
    ),
    Kind(
        "wan2.1-vae",
        "the Wan 2.1 VAE",
        _either(
            _has("encoder.downsamples.0.residual.", "decoder.upsamples."),
            lambda shapes: (
                _has("encoder.down_blocks.", "post_quant_conv.")(shapes) and _five(shapes, "quant_conv.weight")
            ),
        ),
        part="vae",
    ),
    Kind("hunyuan-video", "HunyuanVideo", _has("double_blocks.0.", "txt_in.individual_token_refiner"), instead=EXPERTS),
    Kind(
        "flux",
        "Flux",
        _either(_has("double_blocks.0.img_", "single_blocks.0."), _has("single_transformer_blocks.0.")),
        instead=EXPERTS,
    ),
    Kind("sd3", "Stable Diffusion 3", _has("joint_blocks.0."), instead=EXPERTS),
    Kind("sdxl", "Stable Diffusion XL", _either(_unet(2048), _has("conditioner.embedders.")), instead=EXPERTS),
    Kind("sd2", "Stable Diffusion 2", _unet(1024), instead=EXPERTS),
    Kind("sd1", "Stable Diffusion 1.5", _unet(768), instead=EXPERTS),
    Kind(
        "image-vae",
        "the VAE of an image model",
        _either(_has("decoder.mid.block_1."), _has("decoder.mid_block.", "encoder.conv_in.")),
        instead=VAE,
    ),
    Kind(
        "umt5",
        "a UMT5 text encoder",
        _either(
            _has("token_embedding.weight", "pos_embedding.embedding.weight", "attn.q."),
            lambda shapes: _T5(shapes) and _per_layer_positions(shapes),
        ),
        part="text_encoder",
    ),
    Kind("t5-gguf", "a text encoder in GGUF form, which is not read", _has("enc.blk.0.attn_q"), instead=UMT5),
    Kind("t5", "a T5 text encoder, as Flux and SD3 use,", _T5, instead=UMT5),
    Kind("clip-text", "a CLIP text encoder", _has("text_model.encoder.layers.0."), instead=UMT5),
    Kind(
        "clip-vision",
        "a CLIP image encoder, which Wan2.2 does not use",
        _either(_has("vision_model.encoder.layers.0."), _has("visual.transformer.")),
        instead=EXPERTS,
    ),
    Kind("llm", "a language model", _either(_has("model.layers.0.self_attn."), _has("blk.0.attn_q.")), instead=UMT5),
)


def _five(shapes: Shapes, end: str) -> bool:
    return side(shapes, end, 4) > 0
