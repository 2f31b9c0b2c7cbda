"""Phrases per motion, data for `wording`. The five samples of the knowledge base are in TRAINING as they stand."""

from __future__ import annotations

from wan2_i2v.presets import DEFAULT_PROMPT, PROMPT_PRESETS


def _samples(name: str) -> tuple[str, ...]:
    preset = PROMPT_PRESETS[name]
    return (preset.prompt, preset.verbatim, *preset.verbatim.split(", "))


def _pan(direction: str, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    return (
        f"pan {direction}", f"camera pans {direction}", f"the camera pans {direction}", f"slow pan to the {direction}",
        f"the camera moves {direction}", f"camera slides {direction}", f"panning {direction}", f"tracking shot to the {direction}",
        f"the view drifts {direction}", f"the camera glides slowly {direction}", f"camera movement: {direction}",
        f"{direction} pan", f"move the camera {direction}", f"sweep {direction}", direction, f"dolly {direction}", *more,
    )  # fmt: skip


def _vertical(direction: str, word: str) -> tuple[str, ...]:
    return _pan(
        direction,
        (
            f"tilt {direction}", f"the camera tilts {direction}", f"camera tilts {direction}", f"the camera {word}",
            f"the view {word} slowly", f"crane {direction}", f"tilting {direction}",
        ),
    )  # fmt: skip


TRAINING: dict[str, tuple[str, ...]] = {
    "static": (
        "static", "static pose", "minimal movement, static pose", "minimal movement", "no movement", "nothing moves",
        "completely still", "the picture stays still", "motionless", "standing still", "frozen in time", "hold still",
        "does not move", "remains motionless", "a still image", "locked off camera, no motion", "calm and still",
        "keeps a static pose with minimal movement", *_samples("static-portrait"),
    ),
    "gentle": (
        "gentle movement", "subtle motion", "Beautiful scene with gentle movement", "comes alive softly", "slight movement",
        "breathing life into the picture", "soft, slow motion", DEFAULT_PROMPT, "moves naturally",
        "moves very softly", "a softly moving picture",
    ),
    "pan_left": _pan("left"),
    "pan_right": _pan("right"),
    "pan_up": _vertical("up", "rises"),
    "pan_down": _vertical("down", "sinks"),
    "pan_any": ("camera pans", "the camera pans", "panning shot", "pan across the scene", "camera movement", "tracking shot"),
    "zoom_in": (
        "zoom in", "zooms in", "the camera zooms in", "slow zoom in", "push in", "the camera moves closer", "camera pushes in",
        "dolly in", "closing in on the subject", "getting closer", "zooming in slowly", "move closer", "the view narrows",
        "zooms in on the subject", "zooming in on the person", "the lens zooms in on the house", "zoom in on her", "zoom into the picture",
    ),
    "zoom_out": (
        "zoom out", "zooms out", "the camera zooms out", "slow zoom out", "pull back", "the camera pulls back", "dolly out",
        "moving away from the subject", "getting farther away", "zooming out slowly", "move away", "the view widens",
        "zooms out from the subject", "zooming out from the person", "the lens zooms out", "zoom out to show more",
    ),
    "rotate_cw": (
        "rotate clockwise", "rotates clockwise", "the camera rolls clockwise", "turning clockwise", "rotate", "rotating",
        "the picture rotates", "rotates slowly", "turns to the right around its centre", "roll right", "tilt clockwise",
        "dutch tilt", "tilt", "the frame tilts", "rotation to the right", "rotation", "clockwise",
    ),
    "rotate_ccw": (
        "rotate counterclockwise", "rotates counter-clockwise", "the camera rolls counterclockwise", "turning anticlockwise",
        "rotate anticlockwise", "turns to the left around its centre", "roll left", "tilt counterclockwise",
        "rotation to the left", "counterclockwise", "anticlockwise",
    ),
    "turn": (
        "a graceful turn", "spinning gracefully", "twirls", "pirouette", "spins around", "the dancer spins", "a slow spin",
        "figure skating", *_samples("figure-skating"),
    ),
    "sway": (
        "sway", "sways gently", "swaying in the wind", "swings from side to side", "rocking back and forth", "swaying",
        "the leaves sway in the breeze", "sways left and right", "leans from side to side", "wobbles softly", "the branches sway",
        "trees sway in a light wind", "the tall grass sways softly", "flowers nod softly in the breeze", "bends softly in the wind",
        "swings softly", "swings to and fro", "rocks from side to side", "moves from one side to the other", "a swaying tree",
        "sways in the wind", "the wind rocks it softly", "the plant sways", "it sways a little", "the boat rocks in the wind",
    ),
    "wave": (
        "waving", "waves a hand", "waves enthusiastically", "waving hello", "waves goodbye", "greets with a wave",
        "hand waving", "energetic waving", *_samples("character-animation"),
    ),
    "ripple": (
        "ripple", "ripples", "ripples softly", "ripples in the wind", "rippling water", "flowing", "flowing water", "the water flows", "waves on the sea", "undulating",
        "like a flag in the wind", "the surface ripples", "flowing fabric", "a flowing river", "liquid motion",
        "it ripples", "ripples like cloth", "flows like silk", "a banner flutters and flows",
    ),
    "shake": (
        "shake", "camera shake", "the camera shakes", "shaking", "handheld camera", "earthquake", "trembling", "jitter",
        "shaky footage", "the ground trembles", "vibrating", "the picture shakes and jolts", "all of it shakes", "trembles",
    ),
    "combat": (
        "muzzle flash", "gunfire", "firing a gun", "an explosion flashes", "shots are fired", "battle", "the cannon fires",
        "lightning strikes", *_samples("combat"),
    ),
    "fireworks": (
        "fireworks", "fireworks explode in the sky", "colorful bursts of fireworks", "sparkling fireworks display",
        "rockets burst in the sky", "new year's fireworks", "bright bursts of light", *_samples("fireworks"),
    ),
}  # fmt: skip

DEEDS = (
    "smiles", "laughs", "reads", "drinks", "sings", "sleeps", "thinks", "waits", "works", "cooks", "plays", "writes", "paints", "listens",
    "builds", "watches", "holds", "carries", "opens", "closes", "sits", "cries", "dreams", "whispers", "teaches", "learns", "buys", "sells",
    "wears", "cleans", "repairs", "draws", "counts", "asks", "answers", "finds", "hides", "shows", "gives", "takes", "cuts", "bakes",
    "tastes", "smells", "feels", "loves", "remembers", "forgets", "wins", "loses", "prays", "nods off", "yawns", "blinks", "rests",
    "is happy", "is alone", "is busy", "has a dream", "looks around", "looks at the viewer", "speaks", "celebrates", "grows", "glows", "shines",
)  # fmt: skip
THINGS = (
    "a book", "a letter", "the door", "a guitar", "a phone", "the window", "bread", "a cup of tea", "the garden", "a party", "the kitchen",
    "an office", "a bridge", "a tower", "a horse", "a bird", "a tiger", "a dragon", "a wizard", "the king", "a queen", "a ship", "a train",
    "an airplane", "a bicycle", "a sofa", "the table", "a chair", "a lamp", "the mountains", "the desert", "an island", "a church", "a school",
    "a museum", "a painting", "the moon", "stars", "snow", "rain", "fog", "a crowd", "friends", "a family", "a baby", "grandparents", "a nurse",
    "a farmer", "a chef", "a fisherman", "a teacher", "soup", "fruit", "a dress", "a hat", "gold", "a mirror", "a clock", "a piano", "a stage",
    "shops", "buildings", "the harbour", "an orchard", "bees", "a spaceship", "a monster", "ruins", "a candle", "a lantern festival",
)  # fmt: skip
QUALITIES = (
    "beautiful", "modern", "ancient", "happy", "sad", "serious", "busy", "empty", "huge", "tiny", "mysterious", "dark", "golden", "lively",
    "exciting", "epic", "magical", "romantic", "realistic", "strange", "cosy", "crowded", "futuristic", "rustic", "famous", "delicious",
    "animated", "full of energy", "with a lot going on", "energetic atmosphere", "action", "movement", "motion",
)  # fmt: skip
"""What `mini` has no motion for. Alone, it asks for the gentle one; beside a motion's phrase, for nothing."""

UNKNOWN = (
    "she grins", "the man eats an apple", "clouds", "the quick brown fox jumps over the lazy dog", "Das Boot fährt los", "something happens",
    "dynamic", "the children have fun at the playground", "a birthday cake with candles", "two knights meet at a castle gate", "xyzzy plugh",
    "the detective solves the riddle", "a cowboy drinks whisky", "robots at lunch", "jazz band", "une femme sourit",
)  # fmt: skip
"""For the evaluation only: wordings that ask for no motion that there is."""

HELD_OUT: dict[str, tuple[str, ...]] = {
    "static": (
        "the person stays motionless, no movement at all", "a calm, completely static portrait", "nothing in the picture moves",
        "the scene is perfectly still",
    ),
    "pan_left": ("the camera slowly pans to the left", "smooth camera slide left", "view moves left", "the shot travels left"),
    "pan_right": ("the camera slowly pans to the right", "smooth camera slide right", "view moves right", "the shot travels right"),
    "pan_up": ("the camera slowly tilts up to the sky", "smooth pan up", "view moves up", "the shot travels up"),
    "pan_down": ("the camera slowly tilts down to the ground", "smooth pan down", "view moves down", "the shot travels down"),
    "zoom_in": ("the camera slowly zooms in on the face", "a smooth push in", "zoom closer", "the shot closes in on the eyes"),
    "zoom_out": ("the camera slowly zooms out", "a smooth pull back", "zoom away from the scene", "the shot pulls out wide"),
    "rotate_cw": ("slow clockwise rotation", "the image is rotating clockwise", "the shot rolls clockwise", "a clockwise turn of the frame"),
    "rotate_ccw": (
        "slow counterclockwise rotation", "the image is rotating anticlockwise", "the shot rolls counterclockwise",
        "an anticlockwise turn of the frame",
    ),
    "sway": (
        "the tree sways softly in the wind", "it swings gently side to side", "the lantern swings back and forth",
        "the reeds are swaying lightly",
    ),
    "ripple": ("the flag ripples and flows", "gentle ripples on the water", "ripples run over the cloth", "the stream flows by"),
    "shake": ("the handheld camera shakes hard", "everything trembles and shakes", "a very shaky camera", "the ground is shaking"),
}  # fmt: skip
