"""The LoRAs of a request, however a client writes them, as `NAME[:strength]` of GenerateRequest. Pure.

Comes in: names, objects, lists of them, or JSON text of these. Goes out: fields `loras`, `loras_high`, `loras_low`. A name is
a row of the catalog or a file in ComfyUI's loras folder; no path is taken from a request. Imported by the field modules.
"""

from __future__ import annotations

import json
from typing import Any

from wan2_i2v.errors import InvalidRequest

NAMES = ("name", "path", "lora_name", "lora_path")
STRENGTHS = ("scale", "strength", "weight")
SIDES = ("high", "low")
EXPECTED = 'names such as "x.safetensors" or "x.safetensors:0.8", or objects with name and scale, or with high and low'


def translate(field: str, value: Any, target: str = "loras") -> dict[str, tuple[str, ...]]:
    """The fields that `value` sets; those of a pair are of their expert, the others go to `target`.

    Raises InvalidRequest, naming `field`.
    """
    found: dict[str, tuple[str, ...]] = {}
    for entry in _entries(field, value):
        for side, text in _sides(field, entry, target):
            found[side] = (*found.get(side, ()), text)
    return found


def _entries(field: str, value: Any) -> list[Any]:
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            value = json.loads(value)
        except ValueError:
            raise InvalidRequest(field, value, EXPECTED) from None
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]


def _sides(field: str, entry: Any, target: str) -> list[tuple[str, str]]:
    """(field of the request, name with strength) of one entry."""
    if isinstance(entry, str):
        return [(target, _name(field, entry))]
    if not isinstance(entry, dict):
        raise InvalidRequest(field, entry, EXPECTED)
    if target == "loras" and any(side in entry for side in SIDES):
        return [
            (f"loras_{side}", _strong(field, entry[side], entry.get(f"{side}_weight", entry.get(f"{side}_scale"))))
            for side in SIDES
            if entry.get(side)
        ]
    name = next((entry[key] for key in NAMES if entry.get(key)), None)
    return [(target, _strong(field, name, next((entry[key] for key in STRENGTHS if key in entry), None)))]


def _strong(field: str, name: Any, strength: Any) -> str:
    if not isinstance(name, str):
        raise InvalidRequest(field, name, EXPECTED)
    if strength is None:
        return _name(field, name)
    if isinstance(strength, bool) or not isinstance(strength, int | float):
        raise InvalidRequest(field, strength, "a number as a LoRA's strength")
    return f"{_name(field, name)}:{strength}"


def _name(field: str, name: str) -> str:
    """The name, unless it is a path: those of clients lead nowhere on the server."""
    if not name or any(character in name for character in "/\\\0") or name.startswith(("~", ".")):
        raise InvalidRequest(field, name, "a LoRA's name in the catalog or in the loras folder, without folders")
    return name
