"""The old container's command: `python generate_video.py -i picture.png -p "…"`, a thin door over `wan2_i2v.api`.

A flag comes before its environment variable, which comes before the default. 0 and the empty string are values; an
empty variable counts as unset for numbers only. Exits with 0 only when every video exists and passed its checks.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wan2_i2v import api
from wan2_i2v.doors.cli import output, running
from wan2_i2v.errors import Cancelled, InvalidRequest, Wan2I2VError, translate
from wan2_i2v.presets import DEFAULT_PROMPT, MOUTH_NEGATIVE
from wan2_i2v.request import GenerateRequest
from wan2_i2v.settings import Settings


@dataclass(frozen=True)
class Argument:
    """One value: its flags, its environment variable, how to read it, its default and the request fields it fills."""

    flags: tuple[str, ...]
    variable: str
    kind: type[str] | type[int] | type[float]
    default: Any
    help: str
    fields: tuple[str, ...]

    @property
    def name(self) -> str:
        """How errors call it."""
        return f"{self.flags[-1]} ({self.variable})"

    def parse(self, text: str) -> Any:
        try:
            return self.kind(text)
        except ValueError:
            allowed = "a whole number" if self.kind is int else "a number"
            raise InvalidRequest(self.name, text, allowed) from None


ARGUMENTS = (
    Argument(
        ("-i", "--input-image"), "INPUT_IMAGE", str, None, "picture; a bare name is looked up in input/ too", ("image",)
    ),
    Argument(("-p", "--positive-prompt"), "POSITIVE_PROMPT", str, DEFAULT_PROMPT, "what shall happen", ("prompt",)),
    Argument(
        ("-n", "--negative-prompt"),
        "NEGATIVE_PROMPT",
        str,
        MOUTH_NEGATIVE,
        "what shall not happen",
        ("negative_prompt",),
    ),
    Argument(
        ("-w", "--width"), "WIDTH", int, None, "pixels; chosen from the picture's aspect when not given", ("width",)
    ),
    Argument(
        ("--height",), "HEIGHT", int, None, "pixels; chosen from the picture's aspect when not given", ("height",)
    ),
    Argument(("-l", "--length"), "LENGTH", int, 72, "frames in the file, exactly", ("num_frames",)),
    Argument(("-s", "--steps"), "STEPS", int, 4, "denoise steps", ("num_inference_steps",)),
    Argument(("--seed",), "SEED", int, None, "random when not given; 0 is the seed 0", ("seed",)),
    Argument(("--fps",), "FPS", float, 24.0, "frames per second of the file", ("fps",)),
    Argument(("--cfg",), "CFG", float, 1.0, "guidance scale; 1 is off", ("guidance_scale_high", "guidance_scale_low")),
    Argument(("--shift",), "SHIFT", float, 8.0, "flow shift of the sigmas", ("flow_shift",)),
    Argument(("--sampler",), "SAMPLER_NAME", str, "lcm", "lcm, euler or unipc", ("sampler",)),
    Argument(("--scheduler",), "SCHEDULER", str, "beta", "beta, simple, normal or linear", ("scheduler",)),
    Argument(("--crop",), "CROP", str, "center", "center, top, bottom or auto", ("crop",)),
    Argument(("--batch-size",), "BATCH_SIZE", int, 1, "videos, with seeds s, s+1, …", ("batch_size",)),
    Argument(("--job-id",), "JOB_ID", str, None, "name of the job and its video; default cli-job-<seed>", ("job_id",)),
)


def resolve(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> dict[str, Any]:
    """The value of every argument, by the request field (and `batch_size`) that it fills. `flags` by field.

    Raises InvalidRequest, naming flag and variable, for a value that is not of its kind or a picture that is missing.
    """
    values: dict[str, Any] = {}
    for argument in ARGUMENTS:
        text = flags.get(argument.fields[0])
        if text is None:
            text = environment.get(argument.variable)
            if text == "" and argument.kind is not str:
                text = None
        values |= dict.fromkeys(argument.fields, argument.default if text is None else argument.parse(text))
    if not values["image"]:
        raise InvalidRequest("--input-image (INPUT_IMAGE)", values["image"], "the path of a picture; one is required")
    return values


def requests(values: Mapping[str, Any]) -> tuple[GenerateRequest, ...]:
    """One request per video of the batch, each named after its seed when no job id is given.

    Raises InvalidRequest, naming flag and variable.
    """
    seed = api.draw_seed() if values["seed"] is None else values["seed"]
    fields = {name: value for name, value in values.items() if name != "batch_size"}
    fields |= {"seed": seed, "model": Settings().model}
    # Here an empty negative prompt is a value; without this, mouth prevention would be added to it.
    fields["allow_speech"] = not values["negative_prompt"].strip()
    try:
        batch = GenerateRequest(**fields).batch(values["batch_size"])
    except InvalidRequest as error:
        names = {field: argument.name for argument in ARGUMENTS for field in argument.fields}
        raise InvalidRequest(names.get(error.field, error.field), error.given, error.allowed, error.hint) from None
    if values["job_id"] is not None:
        return batch
    return tuple(request.replaced(job_id=f"cli-job-{request.seed}") for request in batch)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description="Turn a picture into a video under output/.",
        epilog="A flag comes before its environment variable (in brackets), which comes before the default.",
    )
    for argument in ARGUMENTS:
        default = "" if argument.default is None else f" (default: {argument.default})"
        text = f"{argument.help} [{argument.variable}]{default}"
        made.add_argument(*argument.flags, dest=argument.fields[0], metavar=argument.kind.__name__.upper(), help=text)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    flags = vars(parser().parse_args(arguments))
    output.be_printable()
    try:
        values = resolve(flags, os.environ)
        prepared = api.prepare(requests(values), rename=values["job_id"] is None)
        orders = []
        for order in prepared:
            if isinstance(order, Wan2I2VError):
                raise order
            orders.append(order)
        codes = running.run(orders, quiet=False, as_json=False, rename=values["job_id"] is None)
    except KeyboardInterrupt:
        output.say("error: cancelled before anything was begun.")
        return Cancelled.exit_code
    except Exception as error:
        if os.environ.get("WAN2_I2V_DEBUG") == "1":
            raise
        known = translate(error, "running generate_video.py")
        output.error(known, as_json=False)
        return known.exit_code
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main())
