"""Under which id a ComfyUI server has a job, on disk, so that a process that was killed finds its job again. A leaf."""

from __future__ import annotations

import uuid
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from wan2_i2v.workspace import save_json


class Ticket(BaseModel):
    """`prompt_id` names the graph at the server, `client_id` the listener of its websocket. `version` is the server's."""

    model_config = ConfigDict(frozen=True)

    url: str
    prompt_id: str
    client_id: str
    version: str = ""

    @classmethod
    def new(cls, url: str, client_id: str, version: str) -> Ticket:
        """With an id of its own: a canonical lower-case UUID, which is what newer servers take."""
        return cls(url=url, prompt_id=str(uuid.uuid4()), client_id=client_id, version=version)


def load(path: Path) -> Ticket | None:
    """The ticket at `path`, None where there is none."""
    return Ticket.model_validate_json(path.read_bytes()) if path.is_file() else None


def save(path: Path, ticket: Ticket) -> None:
    save_json(path, ticket)


def versions(path: Path) -> dict[str, str]:
    """For a record: the version of the server that made the clip; empty without a ticket."""
    ticket = load(path)
    return {"ComfyUI": ticket.version} if ticket is not None else {}
