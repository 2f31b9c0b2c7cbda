"""The words that the linter knows, as data. Imported by `lint`. Lower case; patterns are for `re` with IGNORECASE."""

from __future__ import annotations

EMOTIONS: dict[str, str] = {
    "laugh": "relaxed posture",
    "laughs": "relaxed posture",
    "laughing": "relaxed posture",
    "smile": "calm expression with closed lips",
    "smiles": "calm expression with closed lips",
    "smiling": "calm expression with closed lips",
    "grin": "calm expression with closed lips",
    "grins": "calm expression with closed lips",
    "grinning": "calm expression with closed lips",
    "cheerful": "friendly",
    "happy": "relaxed",
    "joyful": "bright",
    "joyfully": "lightly",
    "excited": "energetic",
    "excitedly": "with energy",
    "enthusiastic": "energetic",
    "enthusiastically": "with energy",
    "angry": "tense posture",
    "angrily": "with force",
    "furious": "tense posture",
    "crying": "lowered head",
    "cries": "lowers the head",
    "weeping": "lowered head",
    "screaming": "raised arms",
    "screams": "raises both arms",
    "shouting": "raised arms",
    "shouts": "raises both arms",
    "surprised": "raised eyebrows, closed lips",
    "shocked": "raised eyebrows, closed lips",
    "sobbing": "lowered head",
    "yawning": "tired posture",
}
"""Words that move a face, with what says nearly the same without it."""

SPEECH = (
    "talk|talks|talking|speak|speaks|speaking|sing|sings|singing|whisper|whispers|whispering|conversation|dialogue|"
    "lip[- ]?sync|narrates?|chatting|mouths? (?:opens?|opening|moves?|moving)"
)

MOUTH = "mouth|lips?|talk(?:s|ing)?|speak(?:s|ing)?|speech|teeth|tongue|jaw|dialogue|conversation|lip[- ]?sync|facial animation"

ACTIONS = (
    "walk",
    "run",
    "jump",
    "dance",
    "spin",
    "wave",
    "swim",
    "fly",
    "climb",
    "throw",
    "kick",
    "punch",
    "shoot",
    "fire",
    "drive",
    "ride",
    "eat",
    "drink",
    "write",
    "read",
    "cook",
    "paint",
    "kneel",
    "bow",
    "clap",
    "hug",
    "kiss",
    "fall",
    "crawl",
    "skate",
    "ski",
    "fight",
    "lift",
    "push",
    "pull",
    "sit down",
    "stand up",
    "lie down",
    "point",
    "nod",
    "explode",
    "burst",
    "turn",
)
"""Verbs of which a short clip shows one well."""

IRREGULAR = {
    "run": "runs?|running|ran",
    "spin": "spins?|spinning|spun",
    "swim": "swims?|swimming|swam",
    "fly": "fly|flies|flying|flew",
    "sit down": "sits? down|sitting down",
    "stand up": "stands? up|standing up",
    "lie down": "lies? down|lying down",
    "hug": "hugs?|hugging",
    "nod": "nods?|nodding",
    "clap": "claps?|clapping",
    "fire": "fires|firing(?! squad)",
    "read": "reads|reading",
    "fall": "falls|falling",
    "turn": "turns|turning",
    "point": "points at|points to|pointing",
    "fight": "fights|fighting",
    "ride": "rides|riding",
    "bow": "bows|bowing",
    "punch": "punches|punching",
    "burst": "bursts?|bursting",
    "ski": "skis|skiing",
    "drink": "drinks from|drinks|drinking",
    "cook": "cooks|cooking",
    "paint": "paints|painting",
    "wave": "waves (?:one|a|his|her|their|its|the|both|hello|goodbye|at|to|with)|waving",
    "drive": "drives|driving",
    "dance": "dances|dancing",
}
"""Forms where adding s and ing is wrong, or would match a noun."""

SUBJECT = (
    r"person|people|man|men|woman|women|boys?|girls?|child|children|kids?|she|he|they|characters?|soldiers?|skaters?|dancers?|"
    r"warriors?|knights?|figures?|actors?|actress|portrait|crowd"
)
BODY = (
    r"hands?|arms?|legs?|heads?|eyes?|gaze|fingers?|feet|foot|shoulders?|body|hair|hips?|torso|face|lips?|knees?|back|wrists?|"
    r"wings?|tail|paws?|costume|dress|skirt|coat|cape|scarf"
)
SETTING = (
    r"light(?:s|ing|ed|ning|it up)?|lit|sun(?:light|ny|set|rise|beams?)?|moon(?:light)?|shadow\w*|glow\w*|night|day(?:light|time)?|dusk|dawn|"
    r"evening|morning|noon|fog\w*|mist\w*|haze|hazy|rain\w*|snow\w*|storm\w*|sky|neon|candle\w*|lamps?|atmosphere|golden hour|"
    r"backlit|overcast|cloud\w*|dark\w*|bright\w*|warm|cold|fire\w*|spark\w*|dust\w*|soft|studio|bokeh|air"
)
MOVING_BODY = r"(?:moves?|moving|gestur\w+|motion|movement|action|animat\w+|performs?|performing|performance)"

ABSENCE = r"\b(?:no|without|not|never|non|don't|doesn't|avoid|free of)\b"

FILLERS = (
    "masterpiece",
    "best quality",
    "high quality",
    "ultra detailed",
    "highly detailed",
    "8k",
    "4k",
    "hdr",
    "award winning",
    "award-winning",
    "trending on artstation",
    "photorealistic",
    "ultra realistic",
    "hyperrealistic",
    "unreal engine",
    "octane render",
)
"""Tags of image models' training sets that say nothing about a video."""
STOP = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "in",
        "on",
        "at",
        "to",
        "with",
        "and",
        "or",
        "is",
        "are",
        "as",
        "by",
        "for",
        "from",
        "it",
        "its",
        "no",
        "not",
        "any",
        "into",
        "very",
        "over",
        "under",
        "their",
        "his",
        "her",
        "while",
        "without",
        "this",
        "that",
    ]
)
