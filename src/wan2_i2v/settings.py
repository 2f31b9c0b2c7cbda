"""Where things are: settings from the environment (`WAN2_I2V_*`). A leaf."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read anew at each use, so that a changed environment takes effect. Paths are relative to the working directory."""

    model_config = SettingsConfigDict(env_prefix="WAN2_I2V_", frozen=True)

    input: Path = Path("input")
    """Bare picture names are looked up here too."""
    output: Path = Path("output")
    """Videos go here."""

    @property
    def jobs(self) -> Path:
        """One directory per job: its plan, artifacts and record."""
        return self.output / "jobs"
