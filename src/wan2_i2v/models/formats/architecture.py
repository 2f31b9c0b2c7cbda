"""A component's module without weights, and the strict check of a file's keys against it.

Comes in: a configuration; names and shapes under the module's own names. Goes out: a module on the meta device, or one
CheckpointError that lists everything that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from wan2_i2v.errors import CheckpointError
from wan2_i2v.models.formats.configs import Shapes

LISTED = 10


VAE_HALVES = {"encoder": ("encoder", "quant_conv"), "decoder": ("post_quant_conv", "decoder")}
"""Children of the VAE that each direction needs. No stage needs both."""


def skeleton(part: str, config: Mapping[str, Any], children: tuple[str, ...] = ()) -> torch.nn.Module:
    """The component's module on the meta device: names and shapes, no memory. `part` as in a diffusers folder.

    Where `children` are named, the module has no others.
    """
    with torch.device("meta"):
        module = _construct(part, config)
    assert isinstance(module, torch.nn.Module)
    for name in [name for name, _ in module.named_children() if children and name not in children]:
        delattr(module, name)
    return module.eval().requires_grad_(False)


def _construct(part: str, config: Mapping[str, Any]) -> Any:
    if part == "text_encoder":
        from transformers import UMT5Config, UMT5EncoderModel

        return UMT5EncoderModel(UMT5Config(**config))
    if part == "vae":
        from wan2_i2v.models.definitions import AutoencoderKLWan

        return AutoencoderKLWan.from_config(dict(config))
    from wan2_i2v.models.definitions import WanTransformer3DModel

    return WanTransformer3DModel.from_config(dict(config))


def check(path: Path, part: str, found: Shapes, expected: Shapes) -> None:
    """Compare names and shapes with the architecture's.

    Raises CheckpointError listing missing, unexpected and misshaped keys, the first ten of each with their counts.
    """
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    misshaped = sorted(key for key in expected.keys() & found.keys() if found[key] != expected[key])
    sentences = [
        _listed("missing", missing),
        _listed("unexpected", unexpected),
        _listed("of another shape", [f"{key} is {found[key]}, not {expected[key]}" for key in misshaped]),
    ]
    if any(sentences):
        raise CheckpointError(
            f"{path} does not hold a whole {part}: {'; '.join(filter(None, sentences))}. "
            "It is damaged or of another model; run `wan2-i2v models verify`, or download it again."
        )


def _listed(what: str, items: list[str]) -> str:
    if not items:
        return ""
    more = f", … and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return f"{len(items)} {what} ({', '.join(items[:LISTED])}{more})"
