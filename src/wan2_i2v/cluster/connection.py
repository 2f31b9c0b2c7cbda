"""The way to a Ray cluster: joining it, and what it has. Imported by the driver's side.

The cluster is that of RAY_ADDRESS, else the one that this machine is part of. Ray's own token authentication is left
on: where a token is, Ray uses it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import wan2_i2v
from wan2_i2v import devices, measured
from wan2_i2v.devices import DeviceFacts
from wan2_i2v.errors import ClusterError, DeviceError, InvalidRequest, Wan2I2VError, from_dict
from wan2_i2v.measured import Table

START = (
    "On the first machine: RAY_AUTH_MODE=token ray start --head; on the others: RAY_AUTH_MODE=token ray start --address=HOST:6379, "
    "with the same token. See docs/cluster.md."
)
NAMESPACE = "wan2-i2v"
ANSWER_SECONDS = 90.0
"""How long a machine has to say what it is: its first process imports this package."""
FRESH_SECONDS = 60.0
"""How long what a cluster said of itself is believed."""
_ASKING = threading.Lock()
"""A process has one connection to Ray."""


@dataclass(frozen=True)
class Node:
    """One machine. `kinds` are Ray's names for its cards."""

    id: str
    name: str
    cards: int
    cpus: int
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What a process on one machine found there."""

    version: str
    card: DeviceFacts | None
    processor: DeviceFacts
    table: Table
    error: dict[str, Any] | None = None


@dataclass(frozen=True)
class Survey:
    """A cluster: its machines, and what was seen on one of each kind, by the machine's id."""

    nodes: tuple[Node, ...]
    seen: dict[str, Seen]

    @property
    def cards(self) -> int:
        return sum(node.cards for node in self.nodes)

    @property
    def cpus(self) -> int:
        return sum(node.cpus for node in self.nodes)

    @property
    def table(self) -> Table:
        """What stages took on any of the machines."""
        return Table(samples=tuple(sample for seen in self.seen.values() for sample in seen.table.samples))

    def device(self, wanted: str) -> DeviceFacts:
        """The card to plan for, the smallest where they differ; the processor where that is asked for or is all there is.

        Raises InvalidRequest for a card's number, ClusterError when the cluster has no cards or a machine cannot work.
        """
        if wanted not in ("auto", "cpu", "cuda"):
            raise InvalidRequest("device", wanted, "auto, cpu or cuda with --backend ray", "Ray gives out the cards.")
        if not self.cards:
            raise ClusterError(
                f"the cluster has {len(self.nodes)} machines and no cards. Start Ray on machines with cards, or say how many "
                "clips at once a machine without may compute: ray start --num-gpus=1."
            )
        for seen in self.seen.values():
            if seen.error is not None:
                raise from_dict(seen.error)
        found = [(node, self.seen[node.id]) for node in self.nodes if node.id in self.seen]
        cards = [] if wanted == "cpu" else [(node, seen.card) for node, seen in found if seen.card is not None]
        if not cards:
            if wanted == "cuda":
                raise DeviceError("no machine of the cluster has a CUDA card that its driver lists. Use --device auto.")
            return found[0][1].processor
        node, card = min(cards, key=lambda one: one[1].vram_bytes)
        # Its process sees one card only, and shares the machine's RAM with those of the others.
        return replace(card, name="cuda:0", ram_bytes=card.ram_bytes // max(1, node.cards))


def imported() -> Any:
    """Ray. Raises ClusterError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's own new default; the old one hides the cards from processes that asked for none, and warns of itself.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            f"Ray is not installed here ({error}). Install it on every machine: pip install 'wan2-i2v[ray]'"
        ) from error
    return ray


def connect() -> Any:
    """Ray, with this process part of a cluster. One that is connected already stays so.

    Raises ClusterError, saying how to start one.
    """
    ray = imported()
    if ray.is_initialized():
        return ray
    address = os.environ.get("RAY_ADDRESS") or "auto"
    if address == "local" or address.startswith("ray://"):
        raise ClusterError(f"RAY_ADDRESS is {address!r}; allowed: HOST:PORT of the cluster, or auto. {START}")
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ClusterError(f"no Ray cluster answers at {address}: {reason} {START}") from error
    # Ray tells of lost machines on stdout, which belongs to results, and has no public switch for it.
    ray._private.worker._worker_logs_enabled = False
    return ray


def nodes(ray: Any) -> tuple[Node, ...]:
    """The machines that are alive."""
    return tuple(_node(one) for one in ray.nodes() if one["Alive"])


def survey() -> Survey:
    """What the cluster has, asked anew once in a while. Raises ClusterError."""
    with _ASKING:
        return _survey(int(time.monotonic() / FRESH_SECONDS))


@lru_cache(maxsize=1)
def _survey(moment: int) -> Survey:
    was_connected = imported().is_initialized()
    ray = connect()
    try:
        found = nodes(ray)
        return Survey(found, ask(ray, one_of_each(found)))
    finally:
        if not was_connected:
            # Ray ends a process whose cluster has gone: one that only plans, a server, shall outlive it.
            ray.shutdown()


def one_of_each(found: Iterable[Node]) -> list[Node]:
    """One machine with cards of each kind; one without where there are none."""
    kinds: dict[object, Node] = {}
    for node in sorted(found, key=lambda one: (-one.cards, one.id)):
        if node.cards or not kinds:
            kinds.setdefault(node.kinds, node)
    return list(kinds.values())


def ask(ray: Any, machines: Sequence[Node]) -> dict[str, Seen]:
    """What each of these machines says of itself; an error where it cannot."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(look)
    places = {node.id: NodeAffinitySchedulingStrategy(node_id=node.id, soft=False) for node in machines}
    asked = {node.id: task.options(scheduling_strategy=places[node.id]).remote() for node in machines}
    seen = {}
    for node in machines:
        try:
            seen[node.id] = ray.get(asked[node.id], timeout=ANSWER_SECONDS)
        except ray.exceptions.RayError as error:
            seen[node.id] = _mute(node, error)
    return {node_id: _same_version(node_id, one) for node_id, one in seen.items()}


def look() -> Seen:
    """What is here; run on a machine of the cluster."""
    processor = devices.detect("cpu")
    try:
        cards, error = devices.cuda_cards(), None
    except Wan2I2VError as problem:
        cards, error = (), problem.to_dict()
    smallest = min(cards, key=lambda card: card.vram_bytes, default=None)
    return Seen(wan2_i2v.__version__, smallest, processor, measured.load(), error)


def _mute(node: Node, error: Exception) -> Seen:
    reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    problem = ClusterError(
        f"machine {node.name} of the cluster cannot run this program: {reason} Install the same version there: "
        f"pip install 'wan2-i2v[ray]=={wan2_i2v.__version__}'"
    )
    return Seen("", None, devices.detect("cpu"), Table(), problem.to_dict())


def _same_version(node_id: str, seen: Seen) -> Seen:
    ours = wan2_i2v.__version__
    if seen.error is not None or seen.version == ours:
        return seen
    problem = ClusterError(
        f"machine {node_id[:12]} of the cluster has wan2-i2v {seen.version}, this one {ours}. Install the same version everywhere."
    )
    return replace(seen, error=problem.to_dict())


def _node(said: dict[str, Any]) -> Node:
    resources = said["Resources"]
    kinds = tuple(sorted(name for name in resources if name.startswith("accelerator_type:")))
    return Node(
        said["NodeID"],
        said["NodeManagerHostname"] or said["NodeManagerAddress"],
        int(resources.get("GPU", 0)),
        int(resources.get("CPU", 0)),
        kinds,
    )
