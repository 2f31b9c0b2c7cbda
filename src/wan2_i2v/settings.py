"""Where things are: settings from the environment (`WAN2_I2V_*`). A leaf."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _cache() -> Path:
    """The user's cache folder for this program, by the XDG rules."""
    return _base("XDG_CACHE_HOME", "~/.cache")


def _base(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or default).expanduser() / "wan2-i2v"


def _models() -> Path:
    return _base("XDG_DATA_HOME", "~/.local/share") / "models"


def _models_file() -> Path:
    return _base("XDG_CONFIG_HOME", "~/.config") / "models.toml"


def _insights() -> Path:
    return _base("XDG_DATA_HOME", "~/.local/share") / "insights.db"


class Settings(BaseSettings):
    """Read anew at each use, so that a changed environment takes effect. Paths are relative to the working directory."""

    model_config = SettingsConfigDict(env_prefix="WAN2_I2V_", frozen=True)

    model: str = "mini"
    """The model of the service, and of jobs at the command line that name none."""
    input: Path = Path("input")
    """Bare picture names are looked up here too."""
    output: Path = Path("output")
    """Videos go here."""
    cache: Path = Field(default_factory=_cache)
    """What can be made anew: measured times and peaks."""
    insights: Path = Field(default_factory=_insights)
    """The database of all runs, which `wan2-i2v insights` tells of."""
    models: Path = Field(default_factory=_models)
    """Downloaded checkpoints go here."""
    models_file: Path = Field(default_factory=_models_file)
    """The user's own rows of the catalog."""
    comfyui_models: Path | None = None
    """ComfyUI's folder of models, whose files are used in place; None: looked for in the usual places."""
    locks: Path | None = None
    """Lock files that say who owns a device; None: a folder of this user for temporary files."""
    database: SecretStr = SecretStr("")
    """URL of the service's PostgreSQL database; a file in the folder of jobs when empty. It may hold a password."""
    backend: str = "local"
    """What makes the videos where a request does not say: local, comfyui or ray."""
    comfyui_url: str = "http://127.0.0.1:8188"
    """The ComfyUI server of the backend comfyui."""
    cluster_cards: int | None = Field(default=None, ge=1)
    """The most cards of a Ray cluster that one process uses; all of them without."""
    cluster_storage: str = ""
    """A second place for the artifacts of a cluster's jobs, any that fsspec knows: s3://bucket/folder, a shared folder."""
    url: str = ""
    """A running service that the command line hands its jobs to; when empty, the one that owns the device."""
    token: SecretStr = SecretStr("")
    """What that service wants to be sent, and what this machine's own wants; several with commas between them."""

    enhance_url: str = ""
    """An OpenAI-compatible service that `wan2-i2v prompt --enhance` asks, such as http://localhost:11434/v1."""
    enhance_model: str = ""
    """The model of that service."""
    enhance_key: SecretStr = SecretStr("")
    """What that service wants to be sent, if anything."""

    @property
    def jobs(self) -> Path:
        """One directory per job: its plan, artifacts and record."""
        return self.output / "jobs"

    @property
    def measured(self) -> Path:
        """The local table of `measured`."""
        return self.cache / "measured.jsonl"
