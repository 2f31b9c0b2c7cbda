"""Every wrong file that users give is recognised by its content and named with what to get instead."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import format_files as files
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wan2_i2v.errors import CheckpointError
from wan2_i2v.models.formats.headers import fingerprint, read_header
from wan2_i2v.models.formats.identify import check_pair, expect, identify, noise_hint

Shapes = dict[str, tuple[int, ...]]


def wan(dim: int, channels: int, layers: int, *, out: int = 16, prefix: str = "") -> Shapes:
    """Names that tell the Wan models apart, in their published sizes."""
    shapes: Shapes = {
        "patch_embedding.weight": (dim, channels, 1, 2, 2),
        "head.head.weight": (out * 4, dim),
        "text_embedding.0.weight": (dim, 4096),
    }
    shapes |= {f"blocks.{index}.self_attn.q.weight": (dim, dim) for index in range(layers)}
    return {prefix + name: shape for name, shape in shapes.items()}


T5_BLOCK = "encoder.block.{}.layer.0.SelfAttention."


def t5(vocabulary: int, *, per_layer: bool) -> Shapes:
    shapes: Shapes = {"shared.weight": (vocabulary, 4096)}
    for index in range(24):
        shapes[T5_BLOCK.format(index) + "q.weight"] = (4096, 4096)
        if per_layer or index == 0:
            shapes[T5_BLOCK.format(index) + "relative_attention_bias.weight"] = (32, 64)
    return shapes


CLIP = "img_emb.proj.1.weight"
UNET_IN = "model.diffusion_model.input_blocks.0.0.weight"
UNET_TEXT = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
VAE_IN, VAE_OUT = "encoder.downsamples.0.residual.2.weight", "decoder.upsamples.0.residual.2.weight"
REFINER = "txt_in.individual_token_refiner.blocks.0.weight"
POSITIONS = "blocks.0.pos_embedding.embedding.weight"

WRONG: dict[str, tuple[str, Shapes, str]] = {
    "T2V 14B": ("transformer", wan(5120, 16, 40), r"text-to-video model \(width 5120, layers 40, input channels 16\)"),
    "T2V diffusers": (
        "transformer",
        {"patch_embedding.weight": (5120, 16, 1, 2, 2), "blocks.0.attn1.to_q.weight": (5120, 5120)},
        "text-to-video",
    ),
    "TI2V-5B": ("transformer", wan(3072, 48, 30, out=48), r"TI2V-5B \(.*input channels 48\)"),
    "Wan 2.1 I2V": ("transformer", wan(5120, 36, 40) | {CLIP: (1280, 1280)}, "Wan 2.1 image-to-video .* CLIP"),
    "VACE": ("transformer", wan(5120, 16, 40) | {"vace_blocks.0.self_attn.q.weight": (5120, 5120)}, "VACE"),
    "Animate": ("transformer", wan(5120, 36, 40) | {"face_adapter.fuser_blocks.0.linear2.weight": (5, 5)}, "Animate"),
    "S2V": ("transformer", wan(5120, 16, 40) | {"audio_injector.injector.0.q.weight": (5, 5)}, "speech-to-video"),
    "camera": ("transformer", wan(5120, 36, 40) | {"control_adapter.conv.weight": (5, 5)}, "camera-control"),
    "Fun control": ("transformer", wan(5120, 52, 40), "another Wan model"),
    "AIO of T2V": ("transformer", wan(5120, 16, 40, prefix="model.diffusion_model."), "text-to-video"),
    "SDXL": (
        "transformer",
        {UNET_IN: (320, 4, 3, 3), UNET_TEXT: (640, 2048)},
        "Stable Diffusion XL",
    ),
    "SD 1.5": (
        "transformer",
        {UNET_IN: (320, 4, 3, 3), UNET_TEXT: (320, 768)},
        "Stable Diffusion 1.5",
    ),
    "Flux": (
        "transformer",
        {"double_blocks.0.img_attn.qkv.weight": (9216, 3072), "single_blocks.0.linear1.weight": (21504, 3072)},
        "is Flux",
    ),
    "HunyuanVideo": (
        "transformer",
        {"double_blocks.0.img_attn_qkv.weight": (9216, 3072), REFINER: (9, 9)},
        "HunyuanVideo",
    ),
    "SD3": ("transformer", {"joint_blocks.0.x_block.attn.qkv.weight": (4608, 1536)}, "Stable Diffusion 3"),
    "LoRA as model": (
        "transformer",
        {"diffusion_model.blocks.0.self_attn.q.lora_down.weight": (64, 5120)},
        r"is a LoRA, not a Wan2\.2 I2V A14B expert.*give this file as a LoRA",
    ),
    "VAE as model": (
        "transformer",
        {VAE_IN: (96, 96, 3, 3, 3), VAE_OUT: (9, 9, 3, 3, 3)},
        "is the Wan 2.1 VAE, not",
    ),
    "model as VAE": ("vae", wan(5120, 36, 40), r"is a Wan2\.2 I2V A14B expert .*, not the Wan 2\.1 VAE"),
    "Wan 2.2 VAE": (
        "vae",
        {"encoder.downsamples.0.downsamples.0.residual.2.weight": (160, 160, 3, 3, 3)},
        r"Wan 2\.2 VAE of TI2V-5B \(48 latent channels\)",
    ),
    "SD VAE": ("vae", {"decoder.mid.block_1.conv1.weight": (512, 512, 3, 3)}, "VAE of an image model"),
    "T5-XXL": (
        "text_encoder",
        t5(32128, per_layer=False),
        r"is a T5 text encoder.* \(vocabulary 32128, width 4096\), not .*Get the UMT5-XXL",
    ),
    "CLIP-L": ("text_encoder", {"text_model.encoder.layers.0.self_attn.q_proj.weight": (768, 768)}, "CLIP text"),
    "CLIP vision": ("text_encoder", {"vision_model.encoder.layers.0.mlp.fc1.weight": (5120, 1280)}, "CLIP image"),
    "Qwen": ("text_encoder", {"model.layers.0.self_attn.q_proj.weight": (3584, 3584)}, "a language model"),
    "nothing known": ("transformer", {"foo.weight": (3, 3)}, "a model that is not known here"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_files_are_named(kind: str, tmp_path: Path) -> None:
    part, shapes, message = WRONG[kind]
    path = files.sparse(tmp_path / "model.safetensors", shapes)
    with pytest.raises(CheckpointError, match=message) as raised:
        expect(read_header(path), part)
    assert str(path) in str(raised.value)
    assert "Get " in str(raised.value)


RIGHT: dict[str, tuple[str, Shapes, str]] = {
    "expert": ("transformer", wan(5120, 36, 40), "wan2.2-i2v-a14b"),
    "prefixed": ("transformer", wan(5120, 36, 40, prefix="model.diffusion_model."), "wan2.2-i2v-a14b"),
    "umt5": ("text_encoder", t5(256384, per_layer=True), "umt5"),
    "umt5 original": (
        "text_encoder",
        {"token_embedding.weight": (256384, 4096), "blocks.0.attn.q.weight": (4096, 4096), POSITIONS: (32, 64)},
        "umt5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", RIGHT)
def test_right_files_pass(kind: str, tmp_path: Path) -> None:
    part, shapes, slug = RIGHT[kind]
    identity = expect(read_header(files.sparse(tmp_path / "model.safetensors", shapes)), part)
    assert identity.slug == slug
    assert identity.usable
    if part == "transformer":
        assert identity.dims == {"width": 5120, "layers": 40, "input channels": 36}


def test_precision_and_description(tiny_wan: ModuleType, tmp_path: Path) -> None:
    weights = {key: torch.from_numpy(value) for key, value in tiny_wan.expert("high").items()}
    scaled = files.save(tmp_path / "wan2.2_i2v_high_noise.safetensors", files.fp8(weights, torch.float8_e4m3fn))
    identity = identify(scaled)
    assert identity.precision.startswith("F8_E4M3 scaled + F32")
    assert identity.noise == "high"
    assert "width 256, layers 2, input channels 36" in identity.describe()
    arrays = {key: value.numpy() for key, value in weights.items()}
    identity = identify(files.save_gguf(tmp_path / "a.gguf", arrays, "Q8_0"))
    assert (identity.precision.split(" + ")[0], identity.container) == ("Q8_0", "gguf")
    assert "Get instead:" in identify(files.sparse(tmp_path / "t2v.safetensors", wan(5120, 16, 40))).describe()


BROKEN: dict[str, tuple[str, bytes, str]] = {
    "LFS pointer": (
        "a.safetensors",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 14288\n",
        "is a Git LFS pointer, not the weights. Run `git lfs pull`",
    ),
    "web page": ("a.safetensors", b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
    "XML error": ("a.safetensors", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
    "web page as GGUF": ("a.gguf", b"<html><body>404</body></html>", "is a web page"),
    "old pickle": ("a.safetensors", pickle.dumps({"a": np.zeros(3)}, protocol=2), "is a Python pickle"),
    "JSON": ("a.safetensors", b'{"weight_map": {}}', "is a JSON text"),
    "empty": ("a.safetensors", b"", "is empty"),
    "noise": ("a.safetensors", b"\xff" * 64, "is no safetensors file"),
    "short": ("a.safetensors", b"\x05", "is no safetensors file"),
    "header cut": ("a.safetensors", struct.pack("<Q", 5000) + b'{"a":', "is cut short: 13 bytes end inside its header"),
    "header garbage": ("a.safetensors", struct.pack("<Q", 4) + b"{{{{", "is damaged"),
    "header of another kind": ("a.safetensors", struct.pack("<Q", 8) + b'{"a": 3}', "is damaged"),
    "header without offsets": ("a.safetensors", struct.pack("<Q", 9) + b'{"a": {}}', "is damaged"),
    "GGUF cut": ("a.gguf", b"GGUF" + struct.pack("<IQQ", 3, 5, 0), "damaged or cut-short GGUF"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_files_that_are_no_weights_are_named(kind: str, tmp_path: Path) -> None:
    name, content, message = BROKEN[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        identify(tmp_path / name)


def test_missing_paths(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        identify(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match=r"no \.safetensors file"):
        identify(tmp_path)
    (tmp_path / "a.safetensors.index.json").write_text('{"weight_map": {"x": "a-00001-of-00002.safetensors"}}')
    with pytest.raises(CheckpointError, match=r"weights missing .* a-00001-of-00002"):
        identify(tmp_path)


def test_two_checkpoints_in_one_folder(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        files.sparse(tmp_path / name, wan(64, 36, 1))
    with pytest.raises(CheckpointError, match="Leave one checkpoint in the folder"):
        identify(tmp_path)


def test_torch_pickle_named_safetensors(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"is a PyTorch pickle named \.safetensors"):
        identify(tmp_path / "a.safetensors")


def test_files_cut_short(tiny_wan: ModuleType, tmp_path: Path) -> None:
    arrays = tiny_wan.expert("high")
    whole = files.save(tmp_path / "a.safetensors", {key: torch.from_numpy(value) for key, value in arrays.items()})
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="is cut short"):
        identify(tmp_path / "cut.safetensors")
    whole = files.save_gguf(tmp_path / "a.gguf", arrays, "Q8_0")
    (tmp_path / "cut.gguf").write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="cut-short GGUF"):
        identify(tmp_path / "cut.gguf")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder, arrays = tmp_path_factory.mktemp("small"), {"blocks.0.ffn.0.weight": np.ones((2, 64), np.float32)}
    plain = files.save(folder / "a.safetensors", {key: torch.from_numpy(value) for key, value in arrays.items()})
    packed = files.save_gguf(folder / "a.gguf", arrays, "Q8_0")
    torch.save({key: torch.from_numpy(value) for key, value in arrays.items()}, folder / "a.pth")
    # A GGUF file ends in padding, which may be missing without harm.
    return {
        ".safetensors": plain.read_bytes(),
        ".gguf": packed.read_bytes().rstrip(b"\0"),
        ".pth": (folder / "a.pth").read_bytes(),
    }


@pytest.mark.parametrize("suffix", [".safetensors", ".gguf", ".pth"])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_anywhere_is_a_checkpoint_error(
    suffix: str, share: float, small: dict[str, bytes], tmp_path_factory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"cut{suffix}"
    path.write_bytes(small[suffix][: int(share * len(small[suffix]))])
    with pytest.raises(CheckpointError):
        identify(path)


@pytest.mark.parametrize(
    ("architecture", "name", "message"),
    [
        ("flux", "double_blocks.0.img_attn.qkv.weight", "architecture 'flux'"),
        ("llama", "blk.0.attn_q.weight", "a language model"),
        ("t5encoder", "enc.blk.0.attn_q.weight", "a text encoder in GGUF form"),
        ("sdxl", "time_embed.0.weight", "architecture 'sdxl'"),
    ],
)
def test_gguf_of_another_architecture(architecture: str, name: str, message: str, tmp_path: Path) -> None:
    path = files.save_gguf(tmp_path / "a.gguf", {name: np.zeros((32, 32), np.float32)}, "Q8_0", architecture)
    with pytest.raises(CheckpointError, match=message):
        expect(read_header(path), "transformer")


def test_the_same_expert_twice(tiny_wan: ModuleType, tmp_path: Path) -> None:
    high = {key: torch.from_numpy(value) for key, value in tiny_wan.expert("high").items()}
    low = {key: torch.from_numpy(value) for key, value in tiny_wan.expert("low").items()}
    first = files.save(tmp_path / "a_high.safetensors", high)
    copy = files.save(tmp_path / "b_low.safetensors", high)
    other = files.save(tmp_path / "c_low.safetensors", low)
    assert fingerprint(read_header(first)) == fingerprint(read_header(copy)) != fingerprint(read_header(other))
    check_pair(first, other)
    for pair in ((first, copy), (first, first)):
        with pytest.raises(CheckpointError, match="same weights: one expert was given twice"):
            check_pair(*pair)
    with pytest.raises(CheckpointError, match="the experts are swapped"):
        check_pair(other, first)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors", "high"),
        ("Wan2.2-I2V-A14B-LowNoise-Q4_K_M.gguf", "low"),
        ("wan2.2_i2v_lightx2v_4steps_lora_v1_low_noise.safetensors", "low"),
        ("transformer_2", "low"),
        ("transformer", "high"),
        ("highlights.safetensors", None),
        ("slow_motion.safetensors", None),
        ("high_and_low.safetensors", None),
    ],
)
def test_noise_hint(name: str, hint: str | None) -> None:
    assert noise_hint(Path(name)) == hint


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_identifying_needs_no_torch(part: str, tmp_path: Path) -> None:
    shapes = {
        "transformer": wan(5120, 36, 40),
        "vae": {"encoder.conv1.weight": (96, 3, 3, 3, 3), VAE_IN: (96, 96, 3, 3, 3), VAE_OUT: (9, 9, 3, 3, 3)},
        "text_encoder": t5(256384, per_layer=True),
    }[part]
    path = files.sparse(tmp_path / "a.safetensors", shapes)
    code = f"""
import sys
from pathlib import Path
from wan2_i2v.models.formats.identify import identify
identity = identify(Path({str(path)!r}))
sys.exit({part!r} not in identity.configs or "torch" in sys.modules or "diffusers" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
