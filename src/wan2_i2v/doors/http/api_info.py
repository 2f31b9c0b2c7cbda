"""What the server is and offers: info, presets, models, the settings' schema, sessions, health and metrics."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

import wan2_i2v
from wan2_i2v.doors.http import api_models, metrics
from wan2_i2v.doors.http.auth import COOKIE, SESSION_SECONDS, Authenticator
from wan2_i2v.doors.http.door import Door, door
from wan2_i2v.doors.http.errors import documented
from wan2_i2v.errors import CheckpointError
from wan2_i2v.models import catalog
from wan2_i2v.models.book import book
from wan2_i2v.presets import PROMPT_PRESETS

router = APIRouter(tags=["server"])
MINI_ABOUT = "Small model of the same architecture that comes with the package"

TheDoor = Annotated[Door, Depends(door)]


@router.get("/healthz", responses=documented())
async def healthz() -> api_models.HealthReply:
    """Whether the server answers at all. Needs no token."""
    return api_models.HealthReply(status="ok")


@router.get("/api/info", responses=documented())
async def info(door: TheDoor) -> api_models.InfoReply:
    """Version, model, device and limits."""
    device, settings = door.service.device, door.settings
    return api_models.InfoReply(
        version=wan2_i2v.__version__,
        model=door.service.model.name,
        device=api_models.DeviceReply(
            name=device.name,
            label=device.label,
            kind="cuda" if device.is_cuda else "cpu",
            total_bytes=device.vram_bytes or None,
            ram_bytes=device.ram_bytes,
        ),
        limits={"max_upload_bytes": settings.max_upload_bytes, "max_pixels": settings.max_pixels},
        needs_token=bool(settings.tokens),
    )


@router.get("/api/presets", responses=documented())
async def presets() -> api_models.PresetsReply:
    """Prompts that work, with the length that they are meant for."""
    return api_models.PresetsReply(
        presets=[
            api_models.Preset(
                name=preset.name,
                title=preset.name.replace("-", " ").capitalize(),
                prompt=preset.prompt,
                negative_prompt=preset.negative_prompt,
                settings={"num_frames": preset.num_frames},
                about=f"{preset.num_frames} frames",
            )
            for preset in PROMPT_PRESETS.values()
        ]
    )


@router.get("/api/models", responses=documented())
def models(door: TheDoor) -> api_models.ModelsReply:
    """The catalog, and what of it is on this machine. Jobs use the one that the server was started with."""
    names = dict.fromkeys((door.service.model.name, *catalog.names()))
    found = [_model(name, door) for name in names]
    return api_models.ModelsReply(models=[model for model in found if model is not None])


def _model(name: str, door: Door) -> api_models.Model | None:
    serving = name == door.service.model.name
    try:
        row = door.service.model if serving else catalog.look(name)
    except CheckpointError:
        # A row of the user's own that is damaged: the command line says what is wrong with it.
        return None
    entry = book().models.get(name.partition(":")[0])
    missing = catalog.missing(name)
    return api_models.Model(
        name=name,
        present=row.files is not None,
        serving=serving,
        licence=entry.licence if entry else "",
        about=entry.title if entry else MINI_ABOUT if name in catalog.BUILTIN else "",
        sizes=list(row.sizes),
        default_recipe=row.default_recipe,
        missing=missing,
    )


@router.get("/api/schema", responses=documented())
async def schema() -> dict[str, Any]:
    """JSON Schema of a job's settings, with defaults and descriptions."""
    return api_models.settings_schema()


@router.post("/api/session", status_code=204, responses=documented())
async def begin_session(body: api_models.SessionBody, request: Request, response: Response, door: TheDoor) -> None:
    """Exchange a token for a cookie, for pictures, videos and events, which browsers load without headers."""
    value = Authenticator(door.settings).session(body.token)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, value, max_age=SESSION_SECONDS, httponly=True, samesite="strict", secure=secure)


@router.delete("/api/session", status_code=204, responses=documented())
async def end_session(response: Response) -> None:
    """Forget the cookie."""
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")


@router.get(
    "/metrics",
    responses={**documented(), 200: {"content": {"text/plain": {}}}},
    response_class=Response,
)
def exposition(request: Request, door: TheDoor) -> Response:
    """Figures for Prometheus."""
    return Response(metrics.exposition(request.app.state.metrics, door), media_type=metrics.CONTENT_TYPE)
