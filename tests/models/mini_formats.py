"""The embedded model's weights written in every form that users have, and rows of models.toml for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import format_files as files
import gguf
import torch
from safetensors.torch import load_file, save_file

from wan2_i2v.models.catalog import MINI
from wan2_i2v.models.formats import keys

State = Mapping[str, torch.Tensor]
WEIGHTS = {
    "transformer": "transformer/diffusion_pytorch_model.safetensors",
    "transformer_2": "transformer_2/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
}
STORED = {"shared.weight": "token_embedding.weight", "encoder.final_layer_norm.weight": "norm.weight"}


def weights(part: str) -> dict[str, torch.Tensor]:
    return load_file(MINI / WEIGHTS[part])


def original_expert(state: State) -> dict[str, torch.Tensor]:
    """diffusers' names → the original Wan ones."""
    renamed = {}
    for name, value in state.items():
        stem, _, kind = name.rpartition(".")
        module = keys.original_module(stem) if kind in ("weight", "bias") else None
        renamed[f"{module}.{kind}" if module else str(keys.original_module(name))] = value
    return renamed


def original_text(state: State) -> dict[str, torch.Tensor]:
    """transformers' names → those of the original UMT5 file."""
    back = {new: old for old, new in keys.UMT5_BLOCK.items()}
    renamed = {}
    for name, value in state.items():
        if name.startswith("encoder.block."):
            number, inner = name.removeprefix("encoder.block.").removesuffix(".weight").split(".", 1)
            renamed[f"blocks.{number}.{back[inner]}.weight"] = value
        elif name in STORED:
            renamed[STORED[name]] = value
    return renamed


def diffusers_folder(folder: Path, changed: Mapping[str, State] | None = None, *, merged: bool = False) -> Path:
    """A copy of the embedded model in diffusers layout with some parts' weights exchanged, in float32."""
    shutil.copytree(MINI, folder)
    for part, state in (changed or {}).items():
        save_file({name: value.float().contiguous() for name, value in state.items()}, folder / WEIGHTS[part])
    if merged:
        shutil.rmtree(folder / "transformer_2")
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps(index | {"boundary_ratio": None}))
    return folder


def split(folder: Path, form: str) -> dict[str, Path]:
    """high, low, text_encoder and vae as separate files in `form`; returns the paths by role."""
    folder.mkdir()
    parts = {part: weights(part) for part in WEIGHTS}
    experts = {"high": original_expert(parts["transformer"]), "low": original_expert(parts["transformer_2"])}
    text, vae = folder / "text.safetensors", folder / "vae.safetensors"
    files.save(vae, parts["vae"])
    if form == "fp8_scaled":
        paths = {
            role: files.save(folder / f"{role}_noise.safetensors", files.fp8(_float(state), torch.float8_e4m3fn))
            for role, state in experts.items()
        }
        files.save(text, files.fp8(_float(parts["text_encoder"]), torch.float8_e4m3fn))
    elif form.startswith("gguf"):
        kind = form.removeprefix("gguf ")
        arrays = {
            role: {name: value.float().numpy() for name, value in state.items()} for role, state in experts.items()
        }
        paths = {role: files.save_gguf(folder / f"{role}_noise.gguf", state, kind) for role, state in arrays.items()}
        files.save(text, parts["text_encoder"])
    else:
        names = (
            parts if form == "diffusers names" else {"transformer": experts["high"], "transformer_2": experts["low"]}
        )
        paths = {
            role: files.save(folder / f"{role}_noise.safetensors", names[part])
            for role, part in (("high", "transformer"), ("low", "transformer_2"))
        }
        files.save(text, parts["text_encoder"] if form == "diffusers names" else original_text(parts["text_encoder"]))
    return {**paths, "text_encoder": text, "vae": vae}


def all_in_one(path: Path) -> Path:
    """The high-noise expert as a merged one, text encoder and VAE in one file, with ComfyUI's prefixes."""
    return files.save(
        path,
        files.prefixed(original_expert(weights("transformer")), "model.diffusion_model.")
        | files.prefixed(weights("text_encoder"), "text_encoders.umt5xxl.transformer.")
        | files.prefixed(weights("vae"), "vae."),
    )


def rounded(state: State, form: str) -> dict[str, torch.Tensor]:
    """The weights that a lossy form holds, by the arithmetic that defines it, under diffusers' names."""
    out = dict(_float(state))
    for name, value in out.items():
        if not files.big(name, value):
            continue
        if form == "fp8_scaled":
            scale = (value.abs().max() / 448).float().clamp(min=1e-12)
            out[name] = (value / scale).to(torch.float8_e4m3fn).float() * scale
        else:
            kind = gguf.GGMLQuantizationType[form.removeprefix("gguf ")]
            out[name] = torch.from_numpy(gguf.dequantize(gguf.quantize(value.numpy(), kind), kind)).reshape(value.shape)
    return out


def _float(state: State) -> dict[str, torch.Tensor]:
    return {name: value.float() for name, value in state.items()}


def toml_row(name: str, places: Mapping[str, Path], **values: object) -> str:
    """A `[models.name]` table."""
    lines = [f"[models.{name}]"]
    lines += [f'{role} = "{place}"' for role, place in places.items()]
    lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"
