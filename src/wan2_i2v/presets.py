"""Recipes (how to sample) and prompt presets (what to say), as data. A leaf.

Sources: the knowledge base for `rapid` and the prompts; ComfyUI's Wan2.2 template and LightX2V-Wan2.2-Lightning
issue 3 for `lightx2v`; Wan2GP's "Lightning 3 phases" profiles (its threshold of 985, CFG 3.5, shift 5) for `three-phase`;
Wan2.2 `wan/configs/wan_i2v_A14B.py` for `official`.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PROMPT = "A beautiful scene with dynamic movement"

MOUTH_NEGATIVE = (
    "mouth opening, lip movement, talking, speaking, facial animation, lip sync, dialogue, conversation, mouth motion, "
    "jaw movement, teeth showing, tongue visible"
)


@dataclass(frozen=True)
class Recipe:
    """One way of sampling. Guidance is named by expert; 1.0 means that CFG is off for that expert.

    With `plain_from`, the steps at that sigma and above are taken without LoRAs and with the high expert's guidance, and
    all others without CFG: they are for the LoRAs that distilled it away.
    """

    name: str
    summary: str
    sampler: str
    scheduler: str
    flow_shift: float
    num_inference_steps: int
    guidance_scale_high: float
    guidance_scale_low: float
    plain_from: float | None = None


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "rapid", "4 steps, fresh noise each step; what the knowledge base uses", "lcm", "beta", 8.0, 4, 1.0, 1.0
        ),
        Recipe("lightx2v", "4 steps, as the lightx2v LoRAs were distilled", "euler", "simple", 5.0, 4, 1.0, 1.0),
        Recipe(
            "three-phase",
            "6 steps: the first with CFG and without LoRAs, which gives motion back; the others as lightx2v",
            "euler",
            "simple",
            5.0,
            6,
            3.5,
            1.0,
            plain_from=0.985,
        ),
        Recipe("official", "40 steps with CFG, as Wan2.2's generate.py", "unipc", "linear", 5.0, 40, 3.5, 3.5),
    )
}


@dataclass(frozen=True)
class PromptPreset:
    """A prompt pair with the length it is meant for. `verbatim` is the knowledge base's own wording, which has a negative
    prompt of its own where that document gives one.
    """

    name: str
    prompt: str
    negative_prompt: str
    num_frames: int
    verbatim: str
    verbatim_negative: str = MOUTH_NEGATIVE


PROMPT_PRESETS: dict[str, PromptPreset] = {
    preset.name: preset
    for preset in (
        PromptPreset(
            "static-portrait",
            "A close-up portrait of a person who looks calmly into the camera with closed lips. The pose is static, with "
            "minimal movement, in soft natural light.",
            MOUTH_NEGATIVE,
            72,
            "Close-up portrait with serene expression, closed lips, direct eye contact with camera, natural lighting, "
            "minimal movement, static pose, calm demeanor, peaceful countenance, steady gaze",
            "mouth opening, lip movement, talking, speaking, facial animation, lip sync, dialogue, conversation",
        ),
        PromptPreset(
            "figure-skating",
            "A figure skater turns in a graceful spin on the ice while the costume flows around the body, in soft arena "
            "light.",
            MOUTH_NEGATIVE,
            96,
            "Beautiful figure skating performance, graceful spinning motion, elegant ice skating routine, dynamic "
            "twirling movement, artistic ice dance, flowing costume movement",
        ),
        PromptPreset(
            "combat",
            "A soldier in a tactical stance fires a weapon: the muzzle flashes and the recoil shakes the frame, in the "
            "harsh light of a battle.",
            MOUTH_NEGATIVE,
            72,
            "Epic combat scene, weapon firing, muzzle flash, weapon recoil, dynamic action sequence, tactical stance, "
            "intense battle atmosphere",
        ),
        PromptPreset(
            "character-animation",
            "The character waves one hand with energy in a friendly greeting, in bright, warm light.",
            MOUTH_NEGATIVE,
            72,
            "Energetic waving enthusiastically, cheerful gesture, dynamic hand movements, animated greeting, positive "
            "atmosphere",
        ),
        PromptPreset(
            "fireworks",
            "Colorful fireworks burst and sparkle in the night sky above the scene, lighting it up with every explosion.",
            f"{MOUTH_NEGATIVE}, daytime, static sky",
            120,
            "Beautiful fireworks exploding in night sky above children, colorful fireworks bursting and sparkling, "
            "magical firework display, bright colorful explosions",
            "mouth opening, talking, speaking, facial animation, daytime, bright lighting, no fireworks, static sky",
        ),
    )
}

OWN_WORDS = ":verbatim"
"""Behind a preset's name: the knowledge base's own wording."""


def preset_names() -> tuple[str, ...]:
    """What `--preset` knows: each preset in sentences, and in the knowledge base's own words."""
    return tuple(name + words for name in PROMPT_PRESETS for words in ("", OWN_WORDS))


def preset_texts(name: str) -> tuple[str, str, int]:
    """Prompt, negative prompt and length of one of `preset_names`."""
    preset = PROMPT_PRESETS[name.removesuffix(OWN_WORDS)]
    if name.endswith(OWN_WORDS):
        return preset.verbatim, preset.verbatim_negative, preset.num_frames
    return preset.prompt, preset.negative_prompt, preset.num_frames
