"""What a ComfyUI server is asked for: the names of its files, and how it decodes. A leaf.

Imported by `plan`, which stores it, and by everything in this package.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from wan2_i2v.rows import Weights


class ServerPlan(BaseModel):
    """One clip's part of a plan that ComfyUI makes: where, from which files, and whether the VAE decodes in tiles.

    `files` are names in ComfyUI's folders, with subfolders where they lie in some.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    files: Weights
    tiled: bool = False
