"""Checkpoints put together from what lies in ComfyUI's folders: name → places of the parts. No torch.

Every file is recognised by its content. Two experts are a pair when their names differ by "high" and "low" alone; the
name without that word is the checkpoint's. Imported by the catalog.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from wan2_i2v.models.shelf import Found, comfyui_files
from wan2_i2v.rows import ModelFiles


def found_models() -> dict[str, ModelFiles]:
    """Pairs of experts and all-in-one files that ComfyUI's folders hold with all that they need, by name."""
    files = comfyui_files()
    text, vae = _one(files, "text_encoder"), _one(files, "vae")
    experts: dict[str, dict[str, Path]] = {}
    models: dict[str, ModelFiles] = {}
    for file in files:
        parts, path = file.identity.parts, file.path
        if parts == ("text_encoder", "transformer", "vae"):
            models[path.stem] = ModelFiles(transformer=path, text_encoder=path, vae=path)
        elif "transformer" in parts and file.identity.noise:
            experts.setdefault(pair_name(path), {})[file.identity.noise] = path
    for name, pair in experts.items():
        if pair.keys() == {"high", "low"} and text and vae:
            models[name] = ModelFiles(transformer=pair["high"], transformer_2=pair["low"], text_encoder=text, vae=vae)
    return models


def pair_name(path: Path) -> str:
    """A file's name without the word for its expert: `wan2.2_i2v_high_noise_14B` → `wan2.2_i2v_14B`."""
    bare = re.sub(r"(?i)(high|low)[-_ ]?(noise)?", "", path.stem)
    return re.sub(r"([-_. ])[-_. ]+", r"\1", bare).strip("-_. ")


def _one(files: Sequence[Found], part: str) -> Path | None:
    """The first file that is only this part; a text encoder must carry its tokenizer."""
    fit = (file for file in files if file.identity.parts == (part,))
    return next((file.path for file in fit if part != "text_encoder" or file.identity.tokenizer), None)
