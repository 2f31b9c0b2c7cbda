"""The flags of `generate` and `plan`, made from the fields of `GenerateRequest`: types, help, defaults are its own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from wan2_i2v.doors.cli.models import ComfyUI
from wan2_i2v.presets import preset_names
from wan2_i2v.request import GenerateRequest

CLIP, SAMPLING, FILES = "Clip", "Sampling", "Files and machine"


@dataclass(frozen=True)
class Flag:
    """One field of the request on the command line: its names and the panel of the help that it stands in."""

    field: str
    panel: str
    names: tuple[str, ...]


FLAGS = (
    Flag("last_image", CLIP, ("--last-image",)),
    Flag("prompt", CLIP, ("--prompt", "-p")),
    Flag("negative_prompt", CLIP, ("--negative-prompt", "-n")),
    Flag("allow_speech", CLIP, ("--allow-speech",)),
    Flag("width", CLIP, ("--width", "-w")),
    Flag("height", CLIP, ("--height",)),
    Flag("num_frames", CLIP, ("--length", "--num-frames", "-l")),
    Flag("fps", CLIP, ("--fps",)),
    Flag("seed", CLIP, ("--seed",)),
    Flag("best_of", CLIP, ("--best-of",)),
    Flag("retries", CLIP, ("--retries",)),
    Flag("time_budget", CLIP, ("--time-budget",)),
    Flag("crop", CLIP, ("--crop",)),
    Flag("background", CLIP, ("--background",)),
    Flag("loras", SAMPLING, ("--lora",)),
    Flag("loras_high", SAMPLING, ("--lora-high",)),
    Flag("loras_low", SAMPLING, ("--lora-low",)),
    Flag("recipe", SAMPLING, ("--recipe",)),
    Flag("num_inference_steps", SAMPLING, ("--steps", "-s")),
    Flag("sampler", SAMPLING, ("--sampler",)),
    Flag("scheduler", SAMPLING, ("--scheduler",)),
    Flag("flow_shift", SAMPLING, ("--shift",)),
    Flag("boundary_ratio", SAMPLING, ("--boundary",)),
    Flag("guidance_scale_high", SAMPLING, ("--cfg-high",)),
    Flag("guidance_scale_low", SAMPLING, ("--cfg-low",)),
    Flag("nag", SAMPLING, ("--nag/--no-nag",)),
    Flag("nag_scale", SAMPLING, ("--nag-scale",)),
    Flag("nag_tau", SAMPLING, ("--nag-tau",)),
    Flag("nag_alpha", SAMPLING, ("--nag-alpha",)),
    Flag("container", FILES, ("--format", "--container")),
    Flag("crf", FILES, ("--crf",)),
    Flag("output", FILES, ("--output", "-o")),
    Flag("job_id", FILES, ("--job-id",)),
    Flag("overwrite", FILES, ("--overwrite",)),
    Flag("model", FILES, ("--model",)),
    Flag("device", FILES, ("--device",)),
    Flag("attention", FILES, ("--attention",)),
    Flag("compile", FILES, ("--compile",)),
    Flag("backend", FILES, ("--backend",)),
    Flag("comfyui_url", FILES, ("--comfyui-url",)),
)


def beginning(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """For shell completion: those of `choices` that begin with what was typed."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


EXTRA: dict[str, Any] = {
    "comfyui_models": ComfyUI,
    "cfg": Annotated[
        str | None,
        typer.Option("--cfg", help="CFG of both experts; 1 is off", metavar="FLOAT", rich_help_panel=SAMPLING),
    ],
    "batch_size": Annotated[
        str,
        typer.Option(
            "--batch-size",
            help="Videos per picture, with seeds s, s+1, …; default 1",
            metavar="INT",
            show_default=False,
            rich_help_panel=CLIP,
        ),
    ],
    "preset": Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="Prompts and length by name; see wan2-i2v presets",
            autocompletion=beginning(preset_names()),
            rich_help_panel=CLIP,
        ),
    ],
}
SAID_DEFAULTS = {"model": "WAN2_I2V_MODEL, else mini"}
"""What help says where the default at the command line is another than the request's."""
EXTRA_DEFAULTS: dict[str, Any] = {"batch_size": "1"}


def request_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command all flags of a request; they reach it as keyword arguments, None where not given."""
    added = [_parameter(flag.field, _annotation(flag), None) for flag in FLAGS]
    added += [_parameter(name, kind, EXTRA_DEFAULTS.get(name)) for name, kind in EXTRA.items()]
    return with_parameters(command, added)


def text_options(kinds: Mapping[str, Any]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command more flags, which reach it as keyword arguments, empty where not given. `kinds`: annotations by name."""
    return lambda command: with_parameters(command, [_parameter(name, kind, "") for name, kind in kinds.items()])


def with_parameters(command: Callable[..., int], added: Sequence[inspect.Parameter]) -> Callable[..., int]:
    """The command with these parameters in the place of its `**options`."""

    @functools.wraps(command)
    def with_options(**values: Any) -> int:
        return command(**values)

    own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [parameter for parameter in own if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    with_options.__signature__ = inspect.Signature([*parameters, *added])  # type: ignore[attr-defined]
    # Typer reads both; what it looks for stands in the signature.
    with_options.__annotations__ = {}
    return with_options


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _annotation(flag: Flag) -> Any:
    info = GenerateRequest.model_fields[flag.field]
    said = SAID_DEFAULTS.get(flag.field, info.default)
    default = "" if said in (None, False, "", ()) else f"; default {said}"
    kind = _plain(info.annotation)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    number = kind in (int, float)
    option = typer.Option(
        *flag.names,
        help=f"{info.description}{default}",
        metavar=kind.__name__.upper() if number else "|".join(choices) or None,
        autocompletion=beginning(choices) if choices else None,
        rich_help_panel=flag.panel,
    )
    # Numbers and choices reach the request as text: it refuses bad ones in the same words as every other door.
    return Annotated[(str if number or choices else kind) | None, option]


def _plain(annotation: Any) -> Any:
    """The type that a command line can parse: without None and without limits, which the request checks itself.

    A tuple of texts becomes a list: the flag may be repeated.
    """
    if get_origin(annotation) is tuple:
        return list[str]
    if get_origin(annotation) in (Union, UnionType):
        return _plain(next(option for option in get_args(annotation) if option is not NoneType))
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
