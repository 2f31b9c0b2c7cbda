"""Where things are: settings from the environment (`WAN2_I2V_*`). A leaf."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def _cache() -> Path:
    """The user's cache folder for this program, by the XDG rules."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "wan2-i2v"


class Settings(BaseSettings):
    """Read anew at each use, so that a changed environment takes effect. Paths are relative to the working directory."""

    model_config = SettingsConfigDict(env_prefix="WAN2_I2V_", frozen=True)

    input: Path = Path("input")
    """Bare picture names are looked up here too."""
    output: Path = Path("output")
    """Videos go here."""
    cache: Path = Field(default_factory=_cache)
    """What can be made anew: measured times and peaks."""

    @property
    def jobs(self) -> Path:
        """One directory per job: its plan, artifacts and record."""
        return self.output / "jobs"

    @property
    def measured(self) -> Path:
        """The local table of `measured`."""
        return self.cache / "measured.jsonl"
