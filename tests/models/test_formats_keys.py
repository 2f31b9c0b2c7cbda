"""The key maps against diffusers' own converters."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

from wan2_i2v.models.formats import keys


def _originals(golden: Path) -> list[str]:
    tiny = json.loads((golden / "tiny_wan_keys.json").read_text())
    return [name.replace("blocks.1.", f"blocks.{block}.") for name, block in product(tiny, (1, 10, 39))]


def test_transformer_names_are_those_of_diffusers(golden: Path) -> None:
    names = sorted(set(_originals(golden)))
    theirs = {original: new for new, original in convert_wan_transformer_to_diffusers({n: n for n in names}).items()}
    assert {name: keys.transformer_key(name) for name in names} == theirs


def test_original_module_is_the_inverse(golden: Path) -> None:
    for name in _originals(golden):
        module = name.removesuffix(".weight").removesuffix(".bias")
        found = keys.transformer_module(module)
        assert found is not None
        assert keys.original_module(found) == module


def test_foreign_names_have_no_counterpart() -> None:
    for name in ("blocks.0.cross_attn.k_img.weight", "img_emb.proj.0.weight", "blocks.x.ffn.0.weight", "weight", ""):
        assert keys.transformer_key(name) is None
        assert keys.umt5_key(name) is None
    assert keys.original_module("blocks.0.attn3.to_q") is None
