"""`run`: every measurement that this machine can make, as one report. Imported by the command.

On a machine without a card the CPU's part is done and what needs a card says so. What is big enough to tell something on
a card (the experts' true shapes, 720×720×73) would take hours on a CPU, so there it is the embedded model and a small clip.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from wan2_i2v import devices, geometry, measured, pictures, pipeline, planning
from wan2_i2v.bench import drawn, parity, peaks, speed
from wan2_i2v.bench.drawn import Models
from wan2_i2v.bench.report import Part, Report, Row, Value
from wan2_i2v.devices import DeviceFacts
from wan2_i2v.errors import CheckpointError
from wan2_i2v.events import Event, Metric
from wan2_i2v.geometry import LatentShape
from wan2_i2v.memory import GIB
from wan2_i2v.models import catalog
from wan2_i2v.models.formats.opening import open_component
from wan2_i2v.plan import suited
from wan2_i2v.request import GenerateRequest
from wan2_i2v.rows import ModelRow
from wan2_i2v.stages.base import Job
from wan2_i2v.workspace import Workspace

PACKAGES = ("torch", "diffusers", "transformers", "wan2-i2v")
SEED = 1


@dataclass(frozen=True)
class Sizes:
    """What is measured: latent shapes of the memory and the speed part; width, height and frames of the clip."""

    peaks: LatentShape
    speed: LatentShape
    clip: tuple[int, int, int]


ON_CARD = Sizes(geometry.latent_shape(73, 720, 720), geometry.latent_shape(33, 480, 832), (832, 480, 81))
ON_CPU = Sizes(geometry.latent_shape(9, 256, 256), geometry.latent_shape(17, 192, 192), (128, 96, 17))

NO_CARD = "there is no CUDA card here"


def run(device: DeviceFacts, model: str, say: Callable[[str], None], sizes: Sizes | None = None) -> Report:
    """Measure on `device`; `say` hears what is being done. `model` is the checkpoint whose times are taken.

    Raises CheckpointError when its files are not here.
    """
    row, mini = catalog.find(model), catalog.find("mini")
    sizes = sizes or (ON_CARD if device.is_cuda else ON_CPU)
    made = []
    for make in (_memory, _parity, _residencies, _kernels, _clip):
        used = mini if make is _parity else row
        # The caps on a card are those of A14B, whichever model is here.
        part = make(device if make is _memory and device.is_cuda else suited(device, used), used, sizes)
        made.append(_filled(part, say))
    ram = device.vram_bytes if device.is_cuda else device.ram_bytes
    return Report(
        date=date.today().isoformat(),
        device=device.name,
        card=device.label,
        memory_gib=round(ram / GIB, 1),
        dtype=suited(device, row).dtype,
        model=row.name,
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        parts=tuple(made),
    )


def best_model(device: DeviceFacts) -> str:
    """On a card the first real checkpoint whose files are here; the embedded one otherwise."""
    if not device.is_cuda:
        return "mini"
    for name in catalog.names():
        try:
            if name != "mini" and catalog.look(name).files is not None:
                return name
        except CheckpointError:
            # A row of the user's that leads nowhere is no candidate; naming it with --model says what is wrong.
            continue
    return "mini"


@dataclass(frozen=True)
class _Asked:
    """A part that is still to be measured; `skipped` says why it cannot be."""

    name: str
    about: str
    rows: Callable[[], Iterable[Row]] = tuple
    skipped: str = ""


def _filled(asked: _Asked, say: Callable[[str], None]) -> Part:
    say(f"{asked.name}: {asked.skipped or asked.about}")
    return Part(name=asked.name, about=asked.about, skipped=asked.skipped, rows=tuple(asked.rows()))


def _memory(device: DeviceFacts, row: ModelRow, sizes: Sizes) -> _Asked:
    about = f"peaks of {_words(sizes.peaks)}, weights drawn"
    if device.is_cuda:
        whole = Models(catalog.look("a14b"), drawn.A14B_EXPERT, drawn.WAN_VAE)
        caps = " and ".join(f"{cap}" for cap in peaks.CAPS_GB)
        return _Asked(
            "memory", f"{about}, A14B in its true shapes, torch held to {caps} GB",
            lambda: peaks.under_caps(whole, sizes.peaks, device),
        )  # fmt: skip
    models = Models(row, _config(row, "transformer"), _config(row, "vae"))
    return _Asked("memory", f"{about}, {row.name}'s shapes", lambda: peaks.on_cpu(models, sizes.peaks, device))


def _config(row: ModelRow, part: str) -> dict[str, Any]:
    assert row.files is not None
    component = open_component(row.files.parts()[part], part, row.files.config_file(part))  # type: ignore[arg-type]
    component.source.close()
    return dict(component.config)


def _parity(device: DeviceFacts, mini: ModelRow, sizes: Sizes) -> _Asked:
    about = "the same clip on the card and on the CPU, mini"
    if not device.is_cuda:
        return _Asked("parity", about, skipped=NO_CARD)
    return _Asked("parity", about, lambda: parity.differences(mini, devices.detect("cpu"), device))


def _residencies(device: DeviceFacts, row: ModelRow, sizes: Sizes) -> _Asked:
    about = f"one pass of an expert of {row.name}, {_words(sizes.speed)}"
    return _Asked("residency", about, lambda: speed.residencies(row, sizes.speed, device))


def _kernels(device: DeviceFacts, row: ModelRow, sizes: Sizes) -> _Asked:
    about = f"self-attention of one block of {row.name}, {_words(sizes.speed)}"
    return _Asked("attention", about, lambda: speed.kernels(row, sizes.speed, device))


def _clip(device: DeviceFacts, row: ModelRow, sizes: Sizes) -> _Asked:
    width, height, frames = sizes.clip
    about = f"4 steps of {row.name}, {width}×{height}, {frames} frames, from picture to verified file"
    return _Asked("clip", about, lambda: _made(device, row, sizes.clip))


def _words(shape: LatentShape) -> str:
    return f"{shape.width * 8}×{shape.height * 8}, {4 * shape.frames - 3} frames"


def _made(device: DeviceFacts, row: ModelRow, clip: tuple[int, int, int]) -> Iterable[Row]:
    """One job from picture to file, in a folder of its own: time and peak of every stage, and the verdict."""
    with tempfile.TemporaryDirectory(prefix="wan2-i2v-bench-") as name:
        folder = Path(name)
        picture = folder / "picture.png"
        _draw(clip[:2]).save(picture)
        asked = GenerateRequest(
            image=str(picture), prompt=parity.PROMPT, model=row.name, width=clip[0], height=clip[1],
            num_frames=clip[2], num_inference_steps=4, seed=SEED, output=str(folder / "clip.mp4"),
        )  # fmt: skip
        plan = planning.draft(asked, pictures.read_facts(picture), picture, row, device, SEED, table=measured.load())
        job = Job(plan, Workspace(folder / "job"))
        job.workspace.create(asked, plan)
        found: dict[str, dict[str, Value]] = {}

        def hear(event: Event) -> None:
            if isinstance(event, Metric):
                stage, _, what = event.name.rpartition(" ")
                column = "seconds" if what == "time" else "peak GiB"
                found.setdefault(stage, {})[column] = event.value

        (record,) = pipeline.run([job], emit=hear)
    for stage, seconds in record.seconds.items():
        predicted = next((peak.memory_gib for peak in plan.peaks if peak.stage == stage), None)
        known: dict[str, Value] = {} if predicted is None else {"predicted GiB": predicted}
        yield Row(what=stage, values={"seconds": seconds, **found.get(stage, {}), **known})
    failed = () if record.verification is None else record.verification.failures
    verdict = "; ".join(check.name for check in failed) or "passed"
    told = str((record.error or {}).get("message", "failed")) if record.status != "done" else verdict
    yield Row(what="checks of the file", values={"found": told})


def _draw(size: tuple[int, int]) -> Image.Image:
    bands = [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.linear_gradient("L").rotate(90)]
    return Image.merge("RGB", bands).resize(size)
