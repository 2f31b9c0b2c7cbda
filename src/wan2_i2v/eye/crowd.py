"""The faces of a clip, followed from frame to frame, and the verdict on their mouths. Imported by `clip`."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from wan2_i2v.eye import limits, mouth
from wan2_i2v.eye.faces import Face, Picture, find_faces, follow, overlap
from wan2_i2v.eye.limits import Spans
from wan2_i2v.eye.mouth import Crop, MouthJudge, MouthVerdict
from wan2_i2v.record import Check, State

FOLLOWED = 4
"""The largest faces are followed; each costs about 9 ms per frame."""
SEARCH_EVERY = 12
"""Frames between two searches for faces that came in or were lost."""
SAME_PLACE = 0.6
"""Distance in face heights within which a face found again is the one that was lost."""
KEPT_CROPS = 6
SETTLING = 2
"""Times that the mesh looks again where it found a face: its first input is the detector's square, which is coarse."""


@dataclass(frozen=True)
class Seen:
    """One face of the clip: where it was first, what its mouth did, some crops (frame number, RGB) of it."""

    box: tuple[float, float, float, float]
    mouth: MouthVerdict
    crops: tuple[tuple[int, Picture], ...]


@dataclass
class _Track:
    judge: MouthJudge
    face: Face
    box: tuple[float, float, float, float]
    alive: bool = True
    first: tuple[int, Crop] | None = None
    crops: list[tuple[int, float, Picture]] = field(default_factory=list)

    def fits(self, face: Face) -> bool:
        """Whether a face found anew is this one."""
        if overlap(face.box, self.face.box) > 0.2:
            return True
        apart = float(np.hypot(*(face.points.mean(axis=0) - self.face.points.mean(axis=0))))
        return apart < SAME_PLACE * self.face.height and 0.7 < face.height / max(self.face.height, 1.0) < 1.4


@dataclass
class Crowd:
    """Takes frames in order through `see`; `seen` at the end. `uncounted`: faces beyond the FOLLOWED largest."""

    fps: float
    uncounted: int = 0
    _frames: int = 0
    _tracks: list[_Track] = field(default_factory=list)

    def see(self, index: int, frame: Picture) -> None:
        self._frames += 1
        for track in self._tracks:
            if track.alive:
                moved = follow(frame, track.face)
                track.alive = moved is not None
                track.face = moved or track.face
        if index % SEARCH_EVERY == 0:
            self._search(index, frame)
        for track in self._tracks:
            if track.alive:
                self._watch(track, index, frame)

    def _search(self, index: int, frame: Picture) -> None:
        """Look for faces; thoroughly in the first frame only, which costs ten times as much."""
        for face in find_faces(frame, thorough=index == 0):
            known = next((track for track in self._tracks if track.fits(face)), None)
            if known is not None:
                if not known.alive:
                    known.alive, known.face = True, _settled(frame, face)
            elif len(self._tracks) < FOLLOWED:
                placed = _settled(frame, face)
                self._tracks.append(_Track(MouthJudge(self.fps), placed, placed.box))
            else:
                self.uncounted += index == 0

    def _watch(self, track: _Track, index: int, frame: Picture) -> None:
        track.judge.see(index, frame, track.face)
        change = track.judge.last_change
        keep = len(track.crops) < 2 or change > min(kept[1] for kept in track.crops[1:])
        if keep:
            track.crops.append((index, change, _portrait(frame, track.face)))
        if len(track.crops) > KEPT_CROPS:
            track.crops.remove(min(track.crops[1:], key=lambda kept: kept[1]))

    def seen(self) -> tuple[Seen, ...]:
        """All faces followed, the largest first."""
        found = [
            Seen(
                track.box,
                track.judge.verdict(self._frames),
                tuple((index, crop) for index, _, crop in sorted(track.crops, key=lambda kept: kept[0])),
            )
            for track in self._tracks
        ]
        return tuple(sorted(found, key=lambda face: -face.mouth.height))


def _settled(frame: Picture, face: Face) -> Face:
    """A face that was just found, where the mesh sees it from its own points."""
    for _ in range(SETTLING):
        face = follow(frame, face) or face
    return face


def _portrait(frame: Picture, face: Face) -> Picture:
    """The face with some room around it, 160 px high and wide, upright as in the frame."""
    left, top, right, bottom = face.box
    half = 0.6 * max(right - left, bottom - top)
    matrix = np.array(
        [[80 / half, 0, 80 - 80 / half * (left + right) / 2], [0, 80 / half, 80 - 80 / half * (top + bottom) / 2]]
    )
    return np.asarray(cv2.warpAffine(frame, matrix, (160, 160), flags=cv2.INTER_AREA), dtype=np.uint8)


UNSEEN = ("too small", "turned away", "too brief")
"""Verdicts on faces whose mouth cannot be judged."""
ORDER = ("talking", "moves", "unsure", "still", *UNSEEN)


def mouth_check(faces: tuple[Seen, ...], frames: int, uncounted: int, *, allow_speech: bool) -> Check:
    """One verdict over all faces: the worst of them."""
    limit = limits.MOUTH
    if not faces:
        return limit.unchecked("no face was found")
    worst = min(faces, key=lambda face: ORDER.index(face.mouth.verdict))
    judged = [face for face in faces if face.mouth.verdict not in UNSEEN]
    if not judged:
        return limit.unchecked(_why(faces, frames))
    score = max(_score(face.mouth) for face in judged)
    spans = _merged([span for face in judged for span in face.mouth.spans])
    message = _sentence(worst.mouth, judged, len(faces) - len(judged) + uncounted, frames, spans)
    moved = worst.mouth.verdict in ("talking", "moves")
    state: State = "unsure" if worst.mouth.verdict == "unsure" else "judged"
    return limit.built(score, allow_speech or not moved, message, state, spans if moved else ())


def _score(seen: MouthVerdict) -> float:
    """The numbers of a verdict on the scale of `talk`, whose limit is 0.05."""
    return max(
        seen.talk, seen.talk_peak if seen.verdict != "still" else seen.talk, seen.change * mouth.TALKING / mouth.MOVED
    )


def _merged(spans: list[tuple[float, float]]) -> Spans:
    joined: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return tuple(joined)


WORDS = {
    "talking": "a mouth talks",
    "moves": "a mouth moves",
    "unsure": "a mouth may move a little",
    "still": "all mouths are still",
}


def _why(faces: tuple[Seen, ...], frames: int) -> str:
    """Why no mouth could be judged: what is so of the largest face."""
    largest = faces[0].mouth
    reasons = {
        "too small": f"the largest face is {largest.height:.0f} px high; {mouth.SMALLEST:.0f} are needed",
        "turned away": "the face is turned away, its mouth half hidden",
        "too brief": f"a face was seen in {largest.seen} of {frames} frames only",
    }
    return reasons[largest.verdict]


def _sentence(worst: MouthVerdict, judged: list[Seen], left_out: int, frames: int, spans: Spans) -> str:
    text = WORDS[worst.verdict]
    if worst.verdict == "still" and len(judged) == 1:
        text = "the mouth is still"
    if spans:
        text += " at " + ", ".join(f"{begin:.2f}–{end:.2f} s" for begin, end in spans[:4])
    if worst.seen < frames:
        text += f"; the face was seen in {worst.seen} of {frames} frames"
    if left_out > 0:
        text += f"; {left_out} more {'face was' if left_out == 1 else 'faces were'} too small, turned away, too brief or too many to check"
    return text
