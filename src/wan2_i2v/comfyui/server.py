"""What a ComfyUI server is asked for: the names of its files, and how it decodes. A leaf.

Imported by `plan`, which stores it, and by everything in this package.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

ROLES = ("high", "low", "merged", "checkpoint", "text_encoder", "vae")


class ServerFiles(BaseModel):
    """Names of a model's files in ComfyUI's folders, with subfolders where they lie in some; empty where there is none.

    Either `high` and `low`, or `merged`, with `text_encoder` and `vae`; or `checkpoint` alone, which holds everything.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    high: str = ""
    low: str = ""
    merged: str = ""
    checkpoint: str = ""
    text_encoder: str = ""
    vae: str = ""

    def named(self) -> dict[str, str]:
        """The name of every file that there is, by role."""
        return {role: name for role in ROLES if (name := getattr(self, role))}


class ServerPlan(BaseModel):
    """One clip's part of a plan that ComfyUI makes: where, from which files, and whether the VAE decodes in tiles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    files: ServerFiles
    tiled: bool = False
