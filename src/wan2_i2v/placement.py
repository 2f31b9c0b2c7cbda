"""Who does what in a cluster: stages in pools, cards among pools, and what that gives per hour. Pure; a leaf without torch or Ray.

Comes in: the times of a plan's stages and how many cards there are. Goes out: `Group`s of pools with their cards, and the
`ClusterPlan` that a job's plan holds. A pool is what shares one model: the text encoder, the VAE (both its halves), each
expert; checks of the finished file need no card. With enough cards every pool has its own and nothing is swapped; with fewer, a
card works through several pools, one after the other for all clips.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from wan2_i2v.devices import DeviceFacts
from wan2_i2v.timing import StageTime

VERIFY = "verify"
"""The pool of processors."""
POOLS = {"text": "text", "image": "vae", "decode": "vae", "verify": VERIFY}
HEAD_WIDTH = 128
"""Of Wan's attention: a clip's tokens can be shared out among as many cards as divide its heads."""
MANY = 100_000
"""Clips for which the rate of a cluster is told: the loading of models no longer counts."""
NEARLY = 1.05
"""So much slower may be what swaps fewer models: planned times are not that exact, and clips are done sooner."""
LEAST_SECONDS = 1e-3
"""What a stage counts whose time is not known, so that its pool gets a card."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Group(Frozen):
    """Pools that the same `cards` work for."""

    pools: tuple[str, ...]
    cards: int


class SequencePlan(Frozen):
    """One clip's experts on several `cards` of one machine, by diffusers' context parallel: `seconds` at best, in place of
    `alone`. Planned only: this version runs every clip on one card at a time."""

    cards: int
    seconds: float
    alone: float


class ClusterPlan(Frozen):
    """The Ray cluster that a clip was planned for: `groups` and `clips_per_hour` are those of many such clips."""

    nodes: int
    cards: int
    cpus: int
    device: DeviceFacts
    groups: tuple[Group, ...]
    checkers: int
    clips_per_hour: float
    sequence: SequencePlan | None = None


@dataclass(frozen=True)
class Load:
    """What waits for a pool: `seconds` of computing in all, and how long its model takes to load."""

    pool: str
    seconds: float
    loading: float = 0.0


def pool_of(stage: str) -> str:
    """The pool that runs a stage. Steps with and without LoRAs are one expert's."""
    return POOLS.get(stage) or stage.removeprefix("denoise ").removesuffix(" plain")


def loads(stages: Iterable[StageTime]) -> tuple[Load, ...]:
    """What stages of one or many clips make of work for each pool, in the order of their first stage."""
    found: dict[str, Load] = {}
    for stage in stages:
        pool = pool_of(stage.stage)
        before = found.get(pool, Load(pool, 0.0))
        seconds = before.seconds + max(stage.seconds, LEAST_SECONDS)
        found[pool] = Load(pool, seconds, max(before.loading, stage.loading_s))
    return tuple(found.values())


def place(work: Sequence[Load], cards: int) -> tuple[Group, ...]:
    """Share `cards` out among pools so that the last one is done soonest; of nearly equals, what swaps fewest models.

    A group's cards share its seconds and load each of its models once, since a card does all clips of one pool before the
    next. Nothing for no cards, or no work.
    """
    return soonest(work, cards, lambda groups: bottleneck(work, groups))


def soonest(work: Sequence[Load], cards: int, seconds_of: Callable[[Sequence[Group]], float]) -> tuple[Group, ...]:
    """`place` by another measure of the seconds that a way takes."""
    work = [load for load in work if load.pool != VERIFY]
    if cards < 1 or not work:
        return ()
    ways = [
        tuple(
            Group(pools=tuple(load.pool for load in group), cards=count) for group, count in _shared_out(groups, cards)
        )
        for groups in _partitions(work)
        if len(groups) <= cards
    ]
    seconds = [seconds_of(way) for way in ways]
    enough = [index for index in range(len(ways)) if seconds[index] <= min(seconds) * NEARLY]
    return ways[min(enough, key=lambda index: (-len(ways[index]), seconds[index]))]


def bottleneck(work: Sequence[Load], groups: Sequence[Group]) -> float:
    """Seconds until the slowest group is done, when no pool ever waits for another."""
    by_pool = {load.pool: load for load in work}
    return max((_seconds([by_pool[pool] for pool in one.pools], one.cards) for one in groups), default=0.0)


def checkers(work: Sequence[Load], seconds: float, cpus: int) -> int:
    """How many processors look at finished files, so that they keep up with cards that take `seconds` for all of it."""
    looking = sum(load.seconds for load in work if load.pool == VERIFY)
    return max(1, min(cpus, math.ceil(looking / seconds) if seconds > 0 else 1))


def plan(stages: Sequence[StageTime], where: tuple[int, int, int], device: DeviceFacts) -> ClusterPlan:
    """The cluster's plan for clips whose stages take this long. `where`: machines, cards and processors."""
    nodes, cards, cpus = where
    many = [Load(load.pool, load.seconds * MANY, load.loading) for load in loads(stages)]
    groups = place(many, cards)
    seconds = bottleneck(many, groups)
    looking = checkers(many, seconds, cpus)
    slowest = max([seconds, *(load.seconds / looking for load in many if load.pool == VERIFY)])
    rate = round(3600 * MANY / slowest, 3) if groups else 0.0
    return ClusterPlan(
        nodes=nodes, cards=cards, cpus=cpus, device=device, groups=groups, checkers=looking, clips_per_hour=rate
    )


def sequence(stages: Sequence[StageTime], dim: int, cards: int) -> SequencePlan | None:
    """How one clip could be spread over `cards` of one machine; None for one card. `dim` is the transformer's width."""
    heads = max(1, dim // HEAD_WIDTH)
    ways = max(count for count in range(1, max(1, cards) + 1) if heads % count == 0)
    if ways == 1:
        return None
    alone = sum(stage.seconds for stage in stages)
    shared = sum(stage.seconds for stage in stages if stage.stage.startswith("denoise"))
    return SequencePlan(cards=ways, seconds=round(alone - shared + shared / ways, 3), alone=round(alone, 3))


def _seconds(group: Sequence[Load], cards: int) -> float:
    return sum(load.seconds for load in group) / cards + sum(load.loading for load in group)


def _partitions(work: Sequence[Load]) -> Iterator[list[list[Load]]]:
    """Every way to put pools into groups: 15 for four pools."""
    if not work:
        yield []
        return
    first, *rest = work
    for groups in _partitions(rest):
        yield [[first], *groups]
        for index, group in enumerate(groups):
            yield [*groups[:index], [first, *group], *groups[index + 1 :]]


def _shared_out(groups: Sequence[Sequence[Load]], cards: int) -> list[tuple[Sequence[Load], int]]:
    """Each further card to the group that is slowest then; one that only loads gains nothing from more."""
    counts = [1] * len(groups)
    for _ in range(cards - len(groups)):
        slowest = max(range(len(groups)), key=lambda one: _seconds(groups[one], counts[one]))
        counts[slowest] += 1
    return list(zip(groups, counts, strict=True))
