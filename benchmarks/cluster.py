"""A Ray cluster on this machine: jobs while machines are killed, throughput of two workers, and the scaling model.

Four parts, each with real Ray. "killed": three raylets with one simulated card each make clips of `mini` while one of them is
killed every ten seconds and brought back; every video is compared with one made by this process. "throughput": two workers of one
thread each against one process with one thread and with two. "scaling": stages that only wait, as long as the plan says, on 1, 2
and 4 workers, against what `rehearsal` predicts. "driver": stages that take no time and leave artifacts of the sizes of a clip at
1280×720, so that the driver is what is measured. Prints one JSON object last.

    python benchmarks/cluster.py [--jobs 40] [--every 10] [--parts killed throughput scaling driver] [--out FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

PARTS = ("killed", "throughput", "scaling", "driver")
CLIP = {"num_frames": 9, "width": 64, "height": 64, "num_inference_steps": 4, "model": "mini"}
WAITS = {"text": 1.0, "image": 1.0, "denoise high": 6.0, "denoise low": 6.0, "decode": 2.0, "verify": 1.0}
"""Seconds of each stage of the scaling part."""
LOADING = 3.0
TRIES = 5
WORKERS = (1, 2, 4)
CLIPS_SCALED, CLIPS_TIMED, CLIPS_WRITTEN = 12, 12, 20
MIB = {"text": 8, "image": 12, "denoise high": 19, "denoise low": 19, "decode": 8, "verify": 0}
"""Artifacts of 81 frames at 1280×720; of the driver part."""


def requests(picture: Path, names: Sequence[str], **fields: Any) -> list[Any]:
    """One request per name; its number is the seed, and in the prompt."""
    from wan2_i2v import GenerateRequest

    return [
        GenerateRequest(
            image=str(picture), job_id=name, seed=number, **({"prompt": f"pan left, {number}"} | CLIP | fields)
        )
        for number, name in enumerate(names)
    ]


def sha256(record: Any) -> str:
    return hashlib.sha256(Path(record.video).read_bytes()).hexdigest()


@contextlib.contextmanager
def cluster(**head: Any) -> Iterator[Any]:
    """A cluster of Ray's own for tests: raylets of this machine, each a machine of its own to Ray."""
    from ray.cluster_utils import Cluster

    from wan2_i2v.cluster import connection

    ray = connection.imported()
    # Its handlers at exit can be set by the main thread only, and the killer brings raylets back in another.
    made = Cluster(shutdown_at_exit=False)
    started(made, include_dashboard=False, **head)
    os.environ["RAY_ADDRESS"] = made.address
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        connection._survey.cache_clear()


def started(made: Any, **resources: Any) -> Any:
    """A raylet more. Ray gives its processes 30 s to start, which on a busy machine is not enough every time."""
    for _ in range(TRIES - 1):
        try:
            return made.add_node(**resources)
        except Exception as error:
            print(f"a raylet did not start: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
    return made.add_node(**resources)


class Killer(threading.Thread):
    """Kills one of the raylets every so many seconds, and brings a new one up in its place."""

    def __init__(self, made: Any, nodes: list[Any], every: float, seed: int) -> None:
        super().__init__(daemon=True)
        self.made, self.nodes, self.every, self.dice = made, nodes, every, random.Random(seed)
        self.kills, self.ending = 0, threading.Event()
        self.bringing: list[threading.Thread] = []

    def run(self) -> None:
        while not self.ending.wait(self.every):
            if not self.nodes:
                continue
            node = self.nodes.pop(self.dice.randrange(len(self.nodes)))
            self.made.remove_node(node, allow_graceful=False)
            self.kills += 1
            print(f"killed {self.kills}", file=sys.stderr, flush=True)
            self.bringing.append(threading.Thread(target=self.bring, daemon=True))
            self.bringing[-1].start()

    def bring(self) -> None:
        self.nodes.append(started(self.made, num_gpus=1, num_cpus=1))

    def end(self) -> None:
        self.ending.set()
        for thread in (self, *self.bringing):
            thread.join()


def killed(picture: Path, jobs: int, every: float) -> dict[str, Any]:
    """The first part."""
    from wan2_i2v import generate_many
    from wan2_i2v.events import Finished, Log

    here = [sha256(record) for record in generate_many(requests(picture, [f"here-{n}" for n in range(jobs)]))]
    names = [f"there-{n}" for n in range(jobs)]
    events: list[Any] = []
    with cluster(num_cpus=1, num_gpus=0) as made:
        killer = Killer(made, [started(made, num_gpus=1, num_cpus=1) for _ in range(3)], every, seed=0)
        asked = requests(picture, names, backend="ray")
        begin = time.monotonic()
        killer.start()
        records = generate_many(asked, events.append)
        seconds = time.monotonic() - begin
        killer.end()
    finished = Counter(event.job_id for event in events if isinstance(event, Finished))
    done = [record for record in records if record.status == "done"]
    videos = list(Path(os.environ["WAN2_I2V_OUTPUT"]).glob("there-*.mp4"))
    return {
        "jobs": jobs,
        "kills": killer.kills,
        "every_s": every,
        "lost": jobs - len(done) + len(set(names) - {video.stem for video in videos}),
        "duplicated": sum(count > 1 for count in finished.values())
        + len(videos)
        - len({video.stem for video in videos}),
        "different": sum(sha256(record) != here[names.index(record.job_id)] for record in done),
        "stages_done_again": sum("worker was lost" in event.message for event in events if isinstance(event, Log)),
        "seconds": round(seconds, 1),
    }


def throughput(picture: Path) -> dict[str, Any]:
    """The second part: clips per minute, models loaded or not on each side as they come."""
    import torch

    from wan2_i2v import generate_many

    def timed(side: str, **fields: Any) -> float:
        # What a library takes at its first use, and a worker to start, is not measured; nor are texts that are kept.
        names = [f"{side}-{number}" for number in range(CLIPS_TIMED)]
        generate_many(
            requests(picture, [f"{side}-warm-{number}" for number in range(2)], prompt=f"warm {side}", **fields)
        )
        asked = requests(picture, names, prompt=f"pan left {side}", **fields)
        begin = time.monotonic()
        records = generate_many(asked)
        if any(record.status != "done" for record in records):
            raise SystemExit(f"{side}: {[record.error for record in records]}")
        return round(time.monotonic() - begin, 1)

    seconds = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        seconds[f"one_process_{threads}_threads_s"] = timed(f"threads-{threads}")
    torch.set_num_threads(1)
    with cluster(num_cpus=2, num_gpus=2):
        seconds["two_workers_s"] = timed("workers", backend="ray")
    return {
        "clips": CLIPS_TIMED,
        **seconds,
        "speedup_over_1_thread": round(seconds["one_process_1_threads_s"] / seconds["two_workers_s"], 2),
        "speedup_over_2_threads": round(seconds["one_process_2_threads_s"] / seconds["two_workers_s"], 2),
    }


def waiting_stages(waits: dict[str, float], loading: float, mib: dict[str, int]) -> list[Any]:
    """The pipeline's stages, waiting in place of computing, with artifacts of so many MiB."""
    from wan2_i2v import pipeline
    from wan2_i2v.placement import VERIFY, pool_of

    def waiting(stage: Any) -> Any:
        def run(model: None, job: Any, context: Any) -> None:
            import torch

            from wan2_i2v.cluster import parcels
            from wan2_i2v.stages import tensors

            time.sleep(waits[stage.name])
            if stage.name.startswith("denoise"):
                done = {
                    "step": str(len(job.plan.steps) if stage.name == "denoise low" else job.plan.steps.index(low(job)))
                }
                tensors.save(job.workspace.latents, {"latents": torch.zeros(1 + mib[stage.name] * 2**18)}, done)
                return
            for path in parcels._paths(job.workspace, job.plan, parcels.makes(stage.name))[:1]:
                path.write_bytes(bytes(mib[stage.name] * 2**20))

        @contextlib.contextmanager
        def model(plan: Any) -> Iterator[None]:
            time.sleep(0 if stage.name == VERIFY else loading)
            yield None

        return replace(stage, run=run, model=model, shares=lambda plan: (pool_of(stage.name), run_of(plan)))

    def run_of(plan: Any) -> str:
        """Of one run: the next one loads its models anew."""
        return str(plan.job_id.rpartition("-")[0])

    def low(job: Any) -> Any:
        return next(step for step in job.plan.steps if step.expert == "low")

    return [waiting(stage) for stage in pipeline.STAGES if stage.name in WAITS]


def waited(ray: Any, crew: Any, picture: Path, workers: int, clips: int) -> tuple[float, list[Any]]:
    """Clips whose stages only wait, on so many workers: how long it took, and what became of them."""
    from wan2_i2v import api
    from wan2_i2v.cluster.dispatch import Dispatch
    from wan2_i2v.pipeline import Fate
    from wan2_i2v.stages.base import Context, Job
    from wan2_i2v.timing import StageTime

    os.environ["WAN2_I2V_CLUSTER_CARDS"] = str(workers)
    times = tuple(
        StageTime(stage=name, work=1, seconds=seconds, loading_s=0 if name == "verify" else LOADING, basis="measured")
        for name, seconds in WAITS.items()
    )
    fates = []
    for order in api.prepare(requests(picture, [f"waited-{workers}-of-{clips}-{number}" for number in range(clips)])):
        assert isinstance(order, api.Order), order
        job = Job(order.plan.model_copy(update={"times": times}), order.workspace)
        job.workspace.create(order.request, job.plan)
        job.workspace.prepared.write_bytes(b"waited")
        fates.append(Fate(job, job))
    settled: list[Fate] = []
    crew.tend(workers, 1)
    while not all(member.ready for member in crew.members):
        for _, message in crew.listen(1.0):
            raise SystemExit(f"a worker did not start: {message}")
    begin = time.monotonic()
    Dispatch(ray, fates, Context(lambda event: None, lambda: False), settled.append).run(crew)
    measured = time.monotonic() - begin
    if len(settled) != clips or any(fate.error for fate in settled):
        raise SystemExit(f"{workers} workers: {[fate.error for fate in settled]}")
    return measured, fates


def scaled(ray: Any, crew: Any, picture: Path, workers: int) -> dict[str, Any]:
    """Seconds predicted and measured on so many workers."""
    from wan2_i2v.cluster import rehearsal

    measured, fates = waited(ray, crew, picture, workers, CLIPS_SCALED)
    clips = [fate.planned.plan.times for fate in fates]
    groups = rehearsal.place(clips, workers, 1)
    predicted = rehearsal.makespan(clips, groups, 1)
    return {
        "workers": workers,
        "groups": [[list(group.pools), group.cards] for group in groups],
        "predicted_s": round(predicted, 1),
        "measured_s": round(measured, 1),
        "error": round(measured / predicted - 1, 3),
    }


def scaling(picture: Path) -> dict[str, Any]:
    """The third part: one crew that grows."""
    from wan2_i2v.cluster import connection
    from wan2_i2v.cluster.crew import Crew

    with cluster(num_cpus=max(WORKERS), num_gpus=max(WORKERS)):
        ray = connection.connect()
        crew = Crew(ray, waiting_stages(WAITS, LOADING, dict.fromkeys(MIB, 0)))
        found = [scaled(ray, crew, picture, workers) for workers in WORKERS]
    os.environ.pop("WAN2_I2V_CLUSTER_CARDS", None)
    return {"clips": CLIPS_SCALED, "runs": found, "largest_error": max(abs(one["error"]) for one in found)}


def driver(picture: Path) -> dict[str, Any]:
    """The fourth part."""
    from wan2_i2v.cluster import connection
    from wan2_i2v.cluster.crew import Crew

    with cluster(num_cpus=2, num_gpus=2, object_store_memory=2 * 2**30):
        ray = connection.connect()
        crew = Crew(ray, waiting_stages(dict.fromkeys(WAITS, 0.0), 0.0, MIB))
        seconds, _ = waited(ray, crew, picture, 2, CLIPS_WRITTEN)
    os.environ.pop("WAN2_I2V_CLUSTER_CARDS", None)
    each = sum(MIB.values())
    return {
        "clips": CLIPS_WRITTEN,
        "mib_per_clip": each,
        "seconds_per_clip": round(seconds / CLIPS_WRITTEN, 3),
        "mib_per_second": round(each * CLIPS_WRITTEN / seconds, 1),
        "clips_per_hour": round(3600 * CLIPS_WRITTEN / seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between kills")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, help="parts that were measured before stay in it")
    args = parser.parse_args()
    from PIL import Image

    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="cluster-", ignore_cleanup_errors=True) as folder:
        # Before torch is imported, and for the workers, which have it from the raylet.
        os.environ |= {
            "OMP_NUM_THREADS": "1",
            "WAN2_I2V_OUTPUT": f"{folder}/output",
            "WAN2_I2V_CACHE": f"{folder}/cache",
        }
        # Ray's workers are at 15 by default: beside anything else on this machine they would get nothing.
        os.environ |= {"WAN2_I2V_INSIGHTS": f"{folder}/insights.db", "RAY_worker_niceness": "0"}
        picture = Path(folder) / "picture.png"
        Image.radial_gradient("L").convert("RGB").resize((96, 96)).save(picture)
        for part in args.parts:
            begin = time.monotonic()
            run = {"killed": lambda: killed(picture, args.jobs, args.every)}
            run |= {"throughput": lambda: throughput(picture), "scaling": lambda: scaling(picture)}
            run |= {"driver": lambda: driver(picture)}
            load = round(os.getloadavg()[0], 1)
            result[part] = run[part]() | {"load": [load, round(os.getloadavg()[0], 1)]}
            print(f"{part}: {time.monotonic() - begin:.0f} s, {result[part]}", file=sys.stderr, flush=True)
    result |= {
        "cores": os.cpu_count(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "date": date.today().isoformat(),
    }
    if args.out:
        # Parts may be measured one by one.
        before = json.loads(args.out.read_text()) if args.out.exists() else {}
        result = before | result
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    bad = result.get("killed", {})
    raise SystemExit(any(bad.get(name) for name in ("lost", "duplicated", "different")))


if __name__ == "__main__":
    main()
