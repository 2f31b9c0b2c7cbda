"""The deep checks on clips whose answer is known: synthetic damage and synthetic mouths."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from benchmarks import damage, mouths
from benchmarks.mouths import Scene

from wan2_i2v.eye.clip import examine, look
from wan2_i2v.eye.faces import find_faces

SIZE, FRAMES, FPS = (256, 144), 25, 16.0


@pytest.fixture(scope="module")
def photo():
    return skimage.data.coffee()


@pytest.fixture(scope="module")
def portrait():
    picture = skimage.data.astronaut()
    return picture, find_faces(picture)[0]


def failed(checks):
    return {check.name for check in checks if not check.passed}


def by_name(checks, name):
    return next(check for check in checks if check.name == name)


@pytest.mark.parametrize("way", damage.WAYS)
def test_good_clips_pass(photo, way):
    clip = damage.good_clip(photo, way, size=SIZE, frames=FRAMES)
    assert failed(examine(clip, FPS, clip[0], "motion")) == set()


def test_a_calm_clip_passes_when_stillness_was_asked(photo):
    clip = damage.good_clip(photo, "breathing", size=SIZE, frames=FRAMES)
    assert failed(examine(clip, FPS, clip[0], "static")) == set()


@pytest.mark.parametrize("kind", damage.KINDS, ids=lambda kind: kind.name)
def test_strong_damage_is_found_and_named(photo, kind):
    way = kind.ways[2] if kind.ways else "mixed"
    good = damage.good_clip(photo, way, size=SIZE, frames=FRAMES)
    spoilt = kind.damage(good, kind.strengths[2], np.random.default_rng(3))
    checks = examine(spoilt, FPS, good[0], kind.expected or "motion")
    assert kind.check in failed(checks)
    found = by_name(checks, kind.check)
    assert found.message
    assert kind.check == "first_frame" or found.remedy is not None


def muzzle_flash(photo):
    """A flash of eight frames that dies down while the camera, kicked by it, goes on to other parts of the picture."""
    light = np.r_[np.zeros(9), 60, 55, 50, 45, 20, 10, 5, np.zeros(FRAMES - 16)]
    shift = (np.arange(FRAMES) + np.r_[np.zeros(9), np.linspace(6, 14, 8), np.full(FRAMES - 17, 14)]).astype(int)
    return [
        np.clip(photo[40 : 40 + SIZE[1], 60 + right : 60 + right + SIZE[0]] * 0.6 + more, 0, 255).astype(np.uint8)
        for more, right in zip(light, shift, strict=True)
    ]


def test_a_flash_is_a_fault_unless_it_was_asked_for(photo):
    clip = muzzle_flash(photo)
    checks = examine(clip, FPS, clip[0], "motion")
    assert failed(checks) == {"flash"}, "and no cut, though what it shows has moved on"
    assert by_name(checks, "flash").spans[0][0] == round(9 / FPS, 3)
    asked = examine(clip, FPS, clip[0], "motion", allow_flashes=True)
    assert failed(asked) == set()
    assert by_name(asked, "flash").message == "the picture flashes at 0.56 s, as asked"


def bursts(photo):
    """Balls of light that come at once, one after the other, and stay for long."""
    across, down = np.meshgrid(np.arange(SIZE[0]) / SIZE[0], np.arange(SIZE[1]) / SIZE[1])
    light = np.zeros((FRAMES, SIZE[1], SIZE[0]))
    for begin, x, y in ((6, 0.3, 0.3), (15, 0.7, 0.6)):
        light[begin:] += 110 * np.exp(-((across - x) ** 2 + (down - y) ** 2) / 0.2**2)
    still = photo[40 : 40 + SIZE[1], 60 : 60 + SIZE[0]] * 0.6
    return [np.clip(still + more[..., None], 0, 255).astype(np.uint8) for more in light]


def test_light_on_a_part_of_the_picture_is_no_cut_and_no_drift_where_it_was_asked_for(photo):
    clip = bursts(photo)
    assert "cut" in failed(examine(clip, FPS, clip[0], "motion"))
    assert not {"cut", "brightness_drift"} & failed(examine(clip, FPS, clip[0], "motion", allow_flashes=True))


@pytest.mark.parametrize("kind", [kind for kind in damage.KINDS if "drift" in kind.check], ids=lambda kind: kind.name)
def test_drift_is_a_fault_where_light_was_asked_for(photo, kind):
    good = damage.good_clip(photo, "mixed", size=SIZE, frames=49)
    spoilt = kind.damage(good, kind.strengths[2], np.random.default_rng(3))
    checks = examine(spoilt, FPS, good[0], "motion", allow_flashes=True)
    assert kind.check in failed(checks)


def test_a_cut_is_a_fault_where_flashes_were_asked_for(photo):
    clip = [*muzzle_flash(photo), *damage.good_clip(skimage.data.chelsea(), "pan", size=SIZE, frames=FRAMES)]
    assert "cut" in failed(examine(clip, FPS, clip[0], "motion", allow_flashes=True))


@pytest.mark.parametrize("frames", [6, 9])
def test_one_repeat_in_a_short_clip_is_no_stutter_and_two_are(photo, frames):
    good = damage.good_clip(photo, "pan", size=SIZE, frames=frames)
    once, twice = ([good[i - 1] if i in at else one for i, one in enumerate(good)] for at in ((3,), (1, 4)))
    for clip, passed in ((good, True), (once, True), (twice, False)):
        check = by_name(examine(clip, FPS, good[0], "motion"), "duplicates")
        assert (check.passed, check.state) == (passed, "judged"), check.message
    assert "2 of " in check.message and "stutters" in check.message


def test_repeats_are_not_judged_where_stillness_was_asked(photo):
    good = damage.good_clip(photo, "breathing", size=SIZE, frames=FRAMES)
    clip = [good[i - i % 2] for i in range(FRAMES)]
    check = by_name(examine(clip, FPS, good[0], "static"), "duplicates")
    assert (check.passed, check.state) == (True, "unchecked")
    assert not by_name(examine(clip, FPS, good[0], None), "duplicates").passed


@pytest.mark.parametrize(
    ("scene", "verdict"),
    [
        (Scene(), "still"),
        (Scene(pan=1, zoom=1, flicker=1), "still"),
        (Scene(yaw=3), "still"),
        (Scene("talk", 0.06), "talking"),
        (Scene("slow", 0.08, pan=1), "moves"),
        (Scene("brief", 0.08, roll=1), "talking"),
    ],
)
def test_mouths(portrait, scene, verdict):
    frames = mouths.clip(*portrait, scene, height=110, frames=33, fps=FPS)
    seen = look(frames, FPS)
    assert [face.mouth.verdict for face in seen.faces] == [verdict]
    check = by_name(seen.checks, "mouth")
    assert check.passed == (verdict == "still")
    assert bool(check.spans) == (verdict != "still")


def test_a_face_that_is_there_for_an_instant_is_not_judged(portrait):
    shown = list(mouths.clip(*portrait, Scene("talk", 0.08), height=110, frames=5, fps=FPS))
    empty = [np.full_like(shown[0], 128)] * 20
    check = by_name(examine([*shown, *empty], FPS), "mouth")
    assert (check.state, check.message) == ("unchecked", "not checked: a face was seen in 5 of 25 frames only")
    assert by_name(examine(shown, FPS), "mouth").state == "judged"


def test_speech_may_be_allowed(portrait):
    frames = list(mouths.clip(*portrait, Scene("talk", 0.08), height=100, frames=17, fps=FPS))
    check = by_name(examine(frames, FPS, allow_speech=True), "mouth")
    assert check.passed and "talks" in check.message


def test_a_brief_gulp_is_found_in_a_long_clip_and_timed(portrait):
    still = list(mouths.clip(*portrait, Scene(), height=80, frames=1, fps=FPS))
    gulp = list(mouths.clip(*portrait, Scene("brief", 0.1), height=80, frames=17, fps=FPS))
    check = by_name(examine([*still * 60, *gulp, *still * 60], FPS), "mouth")
    assert not check.passed
    assert all(60 / FPS <= begin < end <= 80 / FPS for begin, end in check.spans)


def test_several_faces_are_judged_one_by_one(portrait):
    quiet = mouths.clip(*portrait, Scene(), height=90, frames=17, fps=FPS)
    loud = mouths.clip(*portrait, Scene("talk", 0.08), height=90, frames=17, fps=FPS)
    seen = look((np.hstack(pair) for pair in zip(quiet, loud, strict=True)), FPS)
    verdicts = {face.box[0] > 190: face.mouth.verdict for face in seen.faces}
    assert verdicts == {False: "still", True: "talking"}


def test_faces_that_are_too_small_or_missing_are_not_passed_as_still(portrait, photo):
    small = list(mouths.clip(*portrait, Scene("talk", 0.1), height=36, frames=9, fps=FPS))
    for clip in (small, [photo] * 9):
        assert by_name(examine(clip, FPS), "mouth").state == "unchecked"


@pytest.mark.parametrize("frames", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("shape", [(64, 96, 3), (1, 1, 3), (8, 400, 3)])
def test_short_and_tiny_clips_have_an_answer(frames, shape):
    rng = np.random.default_rng(0)
    clip = [rng.integers(0, 255, shape).astype(np.uint8) for _ in range(frames)]
    checks = examine(clip, None, None, "motion")
    assert checks and all(check.message for check in checks)


def test_a_longer_clip_keeps_a_bounded_number_of_pictures(photo):
    seen = look((photo[:64, index % 200 : index % 200 + 96] for index in range(150)), FPS)
    assert len(seen.thumbnails) <= 33
    assert seen.thumbnails[-1][0] == 149
