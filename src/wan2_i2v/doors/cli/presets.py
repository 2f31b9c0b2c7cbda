"""`wan2-i2v presets`: the recipes (how to sample) and the prompt presets (what to say)."""

from __future__ import annotations

import dataclasses

from rich.markup import escape
from rich.table import Table

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.output import AsJson
from wan2_i2v.presets import OWN_WORDS, PROMPT_PRESETS, RECIPES


def presets(json: AsJson = False) -> int:
    """List recipes and prompt presets."""
    if json:
        recipes = [dataclasses.asdict(recipe) for recipe in RECIPES.values()]
        output.result(
            {"recipes": recipes, "prompts": [dataclasses.asdict(preset) for preset in PROMPT_PRESETS.values()]}
        )
        return 0
    console = output.console()
    table = Table("recipe", "sampler", "scheduler", "shift", "steps", "CFG high/low", "what", box=None)
    for recipe in RECIPES.values():
        guidance = f"{recipe.guidance_scale_high:g}/{recipe.guidance_scale_low:g}"
        numbers = (f"{recipe.flow_shift:g}", str(recipe.num_inference_steps), guidance)
        table.add_row(recipe.name, recipe.sampler, recipe.scheduler, *numbers, escape(recipe.summary))
    console.print(table)
    for preset in PROMPT_PRESETS.values():
        console.print(f"\n[bold]{preset.name}[/bold] ({preset.num_frames} frames)")
        console.print(f"  {escape(preset.prompt)}\n  not: {escape(preset.negative_prompt)}", soft_wrap=True)
        console.print(f"{preset.name}{OWN_WORDS}, the knowledge base's own words")
        console.print(f"  {escape(preset.verbatim)}\n  not: {escape(preset.verbatim_negative)}", soft_wrap=True)
    return 0
