"""The tables in docs/memory.md, made from the plan: `python -m wan2_i2v.doors.cli.grid_page docs/memory.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from wan2_i2v import grid
from wan2_i2v.models import catalog
from wan2_i2v.request import GenerateRequest

BEGIN = "<!-- Made by `make docs` from the plan; do not edit. -->\n"
END = "<!-- End of what `make docs` makes. -->\n"

MODELS = {"a14b": "bf16", "a14b-fp8": "fp8", "a14b-gguf:Q4_K_M": "GGUF Q4_K_M"}
ASKED = GenerateRequest(image="picture.png", recipe="lightx2v", negative_prompt="talking")
"""Four steps without CFG, with a negative prompt through NAG."""


def tables() -> str:
    """Markdown, one table per way to store the weights."""
    return "\n".join(f"### A14B in {stored}\n\n{_table(name)}" for name, stored in MODELS.items())


def _table(name: str) -> str:
    head = ["size × frames", *(grid.heading(gb) for gb in grid.CARDS)]
    lines = [head, ["---"] * len(head)]
    for line in grid.grid(ASKED, catalog.look(name)):
        lines.append([f"{line.width}×{line.height}×{line.num_frames}", *(cell.text for cell in line.cells)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def renewed(page: str) -> str:
    """The page with fresh tables between its two marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(renewed(target.read_text(encoding="utf-8")), encoding="utf-8")
