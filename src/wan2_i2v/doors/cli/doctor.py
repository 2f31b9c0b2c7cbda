"""`wan2-i2v doctor`: what this machine has, what will run on it and why."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import platform
import shutil
from collections.abc import Callable
from typing import Annotated, Any

import typer

import wan2_i2v
from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.output import AsJson
from wan2_i2v.errors import OutputError, Wan2I2VError, translate

Model = Annotated[
    list[str] | None,
    typer.Option("--model", help="Look at this checkpoint folder too; may be repeated.", show_default=False),
]

Check = dict[str, Any]
"""`name`, `ok`, `found` (a sentence), and what a program may want to know besides."""


def doctor(model: Model = None, json: AsJson = False) -> int:
    """Say what will run on this machine.

    Looks at Python, torch, devices, memory, disk and models. Exits with 0 when all is well.
    """
    from wan2_i2v.models import catalog

    checks = [_check(name, look) for name, look in CHECKS]
    checks += [_check(f"model {name}", functools.partial(_model, name)) for name in (*catalog.BUILTIN, *(model or ()))]
    bad = [check for check in checks if not check["ok"]]
    if json:
        output.result({"ok": not bad, "checks": checks})
    else:
        for check in checks:
            typer.echo(f"{'ok ' if check['ok'] else 'BAD'}  {check['name']}: {check['found']}")
    return bad[0]["exit_code"] if bad else 0


def _check(name: str, look: Callable[[], Check]) -> Check:
    try:
        return {"name": name, "ok": True} | look()
    except (Wan2I2VError, OSError, ImportError) as error:
        known = translate(error, f"looking at {name}")
        return {"name": name, "ok": False, "found": str(known), "exit_code": known.exit_code}


def _python() -> Check:
    system = f"{platform.system()} {platform.machine()}"
    return {"found": f"{platform.python_version()} on {system}, wan2-i2v {wan2_i2v.__version__}"}


def _torch() -> Check:
    torch = importlib.import_module("torch")
    cuda = torch.version.cuda if torch.cuda.is_available() else None
    told = f"CUDA {cuda} works" if cuda else "no working CUDA: jobs run on the CPU"
    others = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("diffusers", "transformers"))
    return {"found": f"{torch.__version__}, {told}; {others}", "cuda": cuda}


def _devices() -> Check:
    from wan2_i2v import devices

    cards = devices.cuda_cards()
    used = devices.detect()
    listed = [f"{card.name} {card.label}, {card.vram_bytes / 2**30:.1f} GiB" for card in cards] or ["no NVIDIA card"]
    return {
        "found": f"{'; '.join(listed)}; jobs run on {used.name} ({used.label}) in {used.dtype}",
        "device": used.name,
    }


def _memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    return {"found": f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB RAM free"}


def _disk() -> Check:
    """The nearest existing folder of the output folder, tried with a file that has no name."""
    import tempfile

    from wan2_i2v.settings import Settings

    wanted = Settings().output.absolute()
    folder = next(parent for parent in (wanted, *wanted.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}. Set WAN2_I2V_OUTPUT.") from error
    return {"found": f"{wanted} is writable, {free / 2**30:.1f} GiB free", "free_bytes": free}


def _model(name: str) -> Check:
    """The checkpoint's files, and whether the largest size that the model offers fits this machine."""
    from wan2_i2v import devices
    from wan2_i2v.models import catalog
    from wan2_i2v.plan import ImageFacts, plan_job
    from wan2_i2v.request import GenerateRequest

    row = catalog.find(name)
    width, height = max(row.sizes, key=lambda size: size[0] * size[1])
    facts = ImageFacts(
        path="any.png", sha256="", width=width, height=height, mode="RGB", format="PNG", has_alpha=False,
        animated_frames=1, rotated=False,
    )  # fmt: skip
    plan = plan_job(GenerateRequest(image="any.png", model=name), facts, row, devices.detect(), seed=0)
    worst = max(plan.peaks, key=lambda peak: peak.memory_gib)
    return {
        "found": f"whole ({row.path}); will run on {plan.device}: {width}×{height}, {plan.num_frames} frames need "
        f"{worst.memory_gib:.1f} GiB in stage {worst.stage}",
        "path": str(row.path),
        "peak_gib": worst.memory_gib,
    }


CHECKS: tuple[tuple[str, Callable[[], Check]], ...] = (
    ("python", _python),
    ("torch", _torch),
    ("devices", _devices),
    ("memory", _memory),
    ("disk", _disk),
)
