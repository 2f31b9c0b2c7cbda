"""A batch of clips played through beforehand: who works when, and when the last clip is done. Imported by `dispatch`.

Comes in: the times of the stages that each clip has left, and how many cards there are. Goes out: seconds, and the groups of pools
with which they are fewest. `placement` tells what cards give per hour once all of them are busy; in a batch the experts' cards
wait for the first picture to be encoded, and the decoder's for the last step. No model, no Ray.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from wan2_i2v import placement
from wan2_i2v.placement import VERIFY, Group, pool_of
from wan2_i2v.timing import StageTime

Clips = Sequence[Sequence[StageTime]]

MOST_CLIPS = 500
"""Above, a rehearsal of every way to share cards out takes seconds, and how a batch begins and ends counts little."""


@dataclass
class _Worker:
    pools: frozenset[str]
    open: str | None = None


def place(clips: Clips, cards: int, checkers: int) -> tuple[Group, ...]:
    """As `placement.place`, for these clips and no others: the way whose last clip is done soonest."""
    work = placement.loads(time for clip in clips for time in clip)
    if len(clips) > MOST_CLIPS:
        return placement.place(work, cards)
    return placement.soonest(work, cards, lambda groups: makespan(clips, groups, checkers))


def makespan(clips: Clips, groups: Sequence[Group], checkers: int) -> float:
    """Seconds until all clips are done, when work is given out as `dispatch` does and every model has to be loaded.

    Files are looked at by `checkers` processors; where there are none, nobody waits for it.
    """
    workers = [_Worker(frozenset(group.pools)) for group in groups for _ in range(group.cards)]
    workers += [_Worker(frozenset({VERIFY})) for _ in range(checkers)]
    ready: dict[str, list[tuple[int, int]]] = defaultdict(list)
    left = [set(range(len(clip))) for clip in clips]
    waiting = [set(range(len(clip))) for clip in clips]

    def offer(number: int) -> None:
        """Put the stages of a clip that can run now where workers look."""
        for stage in sorted(waiting[number]):
            first = stage == min(left[number])
            if first or clips[number][stage].stage == "image":
                waiting[number].discard(stage)
                heapq.heappush(ready[pool_of(clips[number][stage].stage)], (stage - len(clips[number]), number))

    for number in range(len(clips)):
        offer(number)
    now, free = 0.0, list(range(len(workers)))
    ends: list[tuple[float, int, int, int]] = []
    while True:
        idle = []
        for index in sorted(free):
            worker = workers[index]
            pools = [pool for pool in worker.pools if ready[pool]]
            if not pools:
                idle.append(index)
                continue
            _, _, pool = min((one != worker.open, ready[one][0], one) for one in pools)
            place, number = heapq.heappop(ready[pool])
            time = clips[number][place + len(clips[number])]
            loading = 0.0 if worker.open == pool else time.loading_s
            worker.open = pool
            heapq.heappush(ends, (now + loading + time.seconds, index, number, place + len(clips[number])))
        if not ends:
            return now
        free, now = idle, ends[0][0]
        while ends and ends[0][0] == now:
            _, index, number, stage = heapq.heappop(ends)
            left[number].discard(stage)
            if left[number]:
                offer(number)
            free.append(index)
