"""`wan2-i2v serve`: the queue, the HTTP APIs and the page, until Ctrl-C."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import typer

Host = Annotated[
    str | None, typer.Option("--host", help="Address to listen on; others than this machine's own need a token.")
]
Port = Annotated[str | None, typer.Option("--port", metavar="INT", help="Default 8080; 0 takes a free one.")]
Model = Annotated[
    str | None,
    typer.Option("--model", help="The model of all jobs; as for generate. Default: WAN2_I2V_MODEL, else mini."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Backend = Annotated[
    str | None, typer.Option("--backend", metavar="local|comfyui|ray", help="What makes the videos; as for generate.")
]
ComfyUIAt = Annotated[str | None, typer.Option("--comfyui-url", help="The ComfyUI server; as for generate.")]
Batch = Annotated[
    int,
    typer.Option(
        "--batch", min=1, max=64, help="Jobs that share one load of each model; with a cluster, several for each card."
    ),
]
Retain = Annotated[float, typer.Option("--retain-days", min=0.01, help="How long ended jobs are listed; videos stay.")]
WithoutToken = Annotated[
    bool,
    typer.Option(
        "--without-token", help="Listen beyond this machine without a token: in a container behind a local port."
    ),
]


def serve(
    host: Host = None,
    port: Port = None,
    model: Model = None,
    device: Device = "auto",
    backend: Backend = None,
    comfyui_url: ComfyUIAt = None,
    batch: Batch = 4,
    retain_days: Retain = 30.0,
    without_token: WithoutToken = False,
) -> int:
    """Serve the queue, the HTTP APIs and the page.

    Jobs are kept on the disk and go on after a restart. WAN2_I2V_TOKEN holds the token that clients must send,
    WAN2_I2V_DATABASE the URL of a PostgreSQL database to use instead of a file. Ctrl-C stops after the step in progress.
    """
    from pydantic import ValidationError

    from wan2_i2v.doors.http.settings import HttpSettings
    from wan2_i2v.request import GenerateRequest, first_problem
    from wan2_i2v.settings import Settings

    asked = GenerateRequest(image="any", backend=backend, comfyui_url=comfyui_url)
    given: dict[str, Any] = {"host": host, "port": port, "without_token": without_token or None}
    try:
        settings = HttpSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise first_problem(error, HttpSettings) from None

    from wan2_i2v.backends import name_of
    from wan2_i2v.doors.http import server
    from wan2_i2v.jobs.service import ServiceSettings
    from wan2_i2v.jobs.worker import Limits

    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    ours = Settings()
    server.serve(
        settings,
        ServiceSettings(
            model or ours.model,
            device,
            ours.database.get_secret_value(),
            retain_days=retain_days,
            limits=Limits(batch=batch),
            backend=name_of(asked),
            comfyui_url=asked.comfyui_url,
        ),
    )
    return 0
