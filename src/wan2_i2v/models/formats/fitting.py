"""Does a file hold a whole component, in encodings that can be read? Names, shapes and dtypes alone; no torch.

Comes in: what a header says and what the architecture has. Goes out: nothing, or one CheckpointError that lists everything
that is wrong. Used by `opening` and `source` when a component is opened, and by the catalog's `facts` before that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wan2_i2v.errors import CheckpointError
from wan2_i2v.models.formats.configs import Shapes
from wan2_i2v.models.formats.encodings import SUPPORTED
from wan2_i2v.models.formats.headers import Header
from wan2_i2v.models.formats.naming import Entry

LISTED = 10


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


def check_supported(header: Header, found: Mapping[str, Entry]) -> None:
    """Refuse encodings that cannot be read, by name."""
    foreign: dict[str, str] = {}
    for entry in found.values():
        dtype = header.tensors[entry.stored].dtype
        if dtype not in SUPPORTED:
            foreign.setdefault(dtype, entry.stored)
    if foreign:
        listed = ", ".join(f"{dtype} ({name})" for dtype, name in sorted(foreign.items()))
        raise CheckpointError(
            f"{header.path} stores weights as {listed}, which cannot be read. Readable: {', '.join(SUPPORTED)}. "
            "Get the fp8_scaled, fp16, bf16 or a GGUF Q4–Q8 file."
        )
