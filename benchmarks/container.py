"""Build the container's CPU target for real and use it as the old container's users do. Prints one JSON object.

    python benchmarks/container.py --storage /dev/shm

No Docker is needed: Debian's `buildah` builds the Dockerfile and runs its commands, on a base that `debootstrap` makes and
`buildah` tags with the name in FROM. Needs root, both programs, curl, and about 5 GB in --storage, which is removed at
the end. pip's configuration on this machine (an index of its own, a certificate) is used inside too, and is not kept.

Exit code 0 only when every video was made, passed its checks, and was where the old container put it.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import compose  # noqa: E402

IMAGE = "wan2.2-i2v-local"
TOOLS = ("buildah", "debootstrap", "curl")
USER = 1000
PICTURE = "input_001_white.png"
PATIENCE = 300.0
CONFIGURED = Path("/run/host")
"""Where files that pip's configuration names are, inside the build."""

PROMPT, NEGATIVE, SEED = "The camera zooms in on the boat.", "mouth opening, talking, speaking", "101"
"""Those of the knowledge base's list of variables, but for the prompt. In the old command's 4 steps, mini makes of gentle
movement so little that some frames repeat; the checks call that a fault, and the command ends with exit code 3."""
NUMBERS = {"WIDTH": "288", "HEIGHT": "192", "LENGTH": "17", "SEED": SEED}
"""A clip that a processor makes in a minute, in place of the knowledge base's 720x720 and 72 frames."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def base(buildah: compose.Buildah, name: str, scratch: Path) -> None:
    """A Debian of `name`'s release, tagged `name`."""
    release = name.partition(":")[2].removesuffix("-slim")
    tree = scratch / "base"
    subprocess.run(
        ["debootstrap", "--variant=minbase", release, str(tree)], check=True, stdout=subprocess.DEVNULL, text=True
    )
    # As in the official images: a layer is written whole or not at all, so each file need not be flushed.
    (tree / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n")
    for rest in (*tree.glob("var/cache/apt/archives/*.deb"), *tree.glob("var/lib/apt/lists/*_*")):
        rest.unlink()
    container = buildah.ask("from", "scratch")
    subprocess.run(["cp", "-a", f"{tree}/.", buildah.ask("mount", container)], check=True)
    buildah.ask("umount", container)
    buildah.ask("commit", "-q", "--rm", container, name)
    shutil.rmtree(tree)


def pip_options(scratch: Path) -> list[str]:
    """Options of `buildah bud` that let pip inside be configured as it is here, through the Dockerfile's secret."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, stdout=subprocess.PIPE, text=True
    )
    config = configparser.RawConfigParser()
    config.add_section("global")
    options: list[str] = []
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        key, value = name.rpartition(".")[2].replace("_", "-"), shlex.split(value)[0]
        if key in ("cert", "constraint") and Path(value).is_file():
            inside = CONFIGURED / key
            options += ["--volume", f"{value}:{inside}:ro"]
            value = str(inside)
        for folder in re.findall(r"(?:^|file://|\s)(/[^\s]+)", value):
            if Path(folder).is_dir():
                # The pages of an index link to files that lie beside it.
                folder = Path(folder).parent if "index" in key else folder
                options += ["--volume", f"{folder}:{folder}:ro"]
        config.set("global", key, value)
    with (scratch / "pip.conf").open("w") as file:
        config.write(file)
    return ["--secret", f"id=pip,src={scratch / 'pip.conf'}", *options]


def build(buildah: compose.Buildah, scratch: Path) -> None:
    # Docker's format: the other one has no place for a health check.
    kind = ("--format", "docker", "--isolation=chroot", "--pull-never", "--layers", "--target", "cpu")
    command = buildah.command("bud", *kind, "--tag", IMAGE, *pip_options(scratch), str(ROOT))
    subprocess.run(command, check=True, stdout=sys.stderr)


def project(buildah: compose.Buildah, scratch: Path) -> compose.Project:
    """A user's folder with docker-compose.yml's ./input and ./output, a picture, and the volume of models."""
    folder = scratch / "project"
    for name in ("input", "output", "models"):
        (folder / name).mkdir(parents=True)
        os.chown(folder / name, USER, USER)
    shutil.copy(ROOT / "examples/pictures/boat.png", folder / "input" / PICTURE)
    files = compose.load(ROOT / "docker-compose.yml", ROOT / "docker-compose.cpu.yml")
    return compose.Project(buildah, files["services"]["wan2-i2v"], folder, IMAGE)


def exported() -> dict[str, str]:
    """What "Environment Variables (Alternative)" of the knowledge base exports."""
    return {"INPUT_IMAGE": PICTURE, "POSITIVE_PROMPT": PROMPT, "NEGATIVE_PROMPT": NEGATIVE, **NUMBERS}


def typed() -> list[str]:
    """The command of "Command Line Arguments (Recommended)", as the shell hands it over.

    Of the next seed: the video of SEED is there already, and would be given again.
    """
    numbers = f"-w {NUMBERS['WIDTH']} --height {NUMBERS['HEIGHT']} -l {NUMBERS['LENGTH']} --seed {int(SEED) + 1}"
    return shlex.split(f'python generate_video.py -i "{PICTURE}" -p "{PROMPT}" -n "{NEGATIVE}" {numbers}')


def made(work: compose.Project, told: str) -> dict[str, Any]:
    """What lies at the place that a container named, seen from outside. `told` is that place, inside.

    Raises AssertionError when it is not the verified video that it should be.
    """
    inside = Path(told.strip().splitlines()[-1])
    assert inside.parent == Path("/content/ComfyUI/output"), told
    video = work.folder / "output" / inside.name
    record = json.loads(video.with_name(f"{video.name}.json").read_text(encoding="utf-8"))
    assert video.read_bytes()[4:8] == b"ftyp", video
    failed = [check["name"] for check in record["verification"]["checks"] if not check["passed"]]
    assert not failed, failed
    plan = record["plan"]
    return {
        "file": str(inside),
        "bytes": video.stat().st_size,
        "owner": video.stat().st_uid,
        "frames": plan["num_frames"],
        "size": f"{plan['width']}x{plan['height']}",
        "checks": len(record["verification"]["checks"]),
        "seconds": round(sum(record["seconds"].values()), 1),
    }


def generate(work: compose.Project, words: list[str], variables: Mapping[str, str], *, handed: bool) -> dict[str, Any]:
    """One `docker compose run --rm wan2-i2v …`; `handed`: whether the service is to have made it."""
    answer = work.run(words, variables)
    assert answer.returncode == 0, answer.stderr
    assert ("handed to the service" in answer.stderr) == handed, answer.stderr
    return made(work, answer.stdout)


@contextlib.contextmanager
def up(work: compose.Project, variables: Mapping[str, str]) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`docker compose up`: the container's name and its process, while it runs the image's own command."""
    container = work.container()
    process = subprocess.Popen(work.command(container, config(work)["Cmd"], variables))
    try:
        yield container, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
        work.buildah.ask("rm", container)


def config(work: compose.Project) -> dict[str, Any]:
    """The image's configuration: user, command, health check, labels."""
    return dict(json.loads(work.buildah.ask("inspect", "--type", "image", work.image))["Docker"]["config"])


def healthy(work: compose.Project, container: str, variables: Mapping[str, str]) -> bool:
    """The image's own health check, run in the container."""
    words = config(work)["Healthcheck"]["Test"]
    assert words[0] == "CMD", words
    return subprocess.run(work.command(container, words[1:], variables), capture_output=True).returncode == 0


def until_healthy(work: compose.Project, container: str, variables: Mapping[str, str]) -> float:
    """Seconds until the health check passes."""
    begin = time.monotonic()
    while not healthy(work, container, variables):
        assert time.monotonic() - begin < PATIENCE, "the container did not become healthy"
        time.sleep(1)
    return round(time.monotonic() - begin, 1)


def runsync(port: str) -> dict[str, Any]:
    """The knowledge base's curl, with a picture by its name in ./input. The reply's `output`."""
    body = {
        "input_image": PICTURE,
        "positive_prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        **{name.lower(): int(value) for name, value in NUMBERS.items()},
    }
    line = f"curl -sS -X POST http://localhost:{port}/runsync -H 'Content-Type: application/json' -d"
    told = subprocess.run([*shlex.split(line), json.dumps({"input": body})], check=True, stdout=subprocess.PIPE).stdout
    reply = json.loads(told)
    assert reply["status"] == "COMPLETED" and reply["output"]["status"] == "DONE", reply
    assert reply["output"]["verification"]["passed"], reply
    with urllib.request.urlopen(reply["output"]["video_url"].replace("wan2-i2v:", "localhost:")) as answer:
        assert answer.read()[4:8] == b"ftyp"
    return dict(reply["output"])


def port_to_use() -> str:
    """8080 where it is free: a container of `buildah` has the host's network, not one of its own."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for port in (8080, 0):
            with contextlib.suppress(OSError):
                probe.bind(("0.0.0.0", port))
                return str(probe.getsockname()[1])
    raise OSError("no free port")


def measure(work: compose.Project) -> dict[str, Any]:
    port = port_to_use()
    fixed = dict(work.service["environment"])
    fixed |= {"WAN2_I2V_PORT": port, "WAN2_I2V_ADVERTISED_URL": f"http://wan2-i2v:{port}"}
    work = compose.Project(work.buildah, {**work.service, "environment": fixed}, work.folder, work.image)
    say("generate, by environment variables, without a service")
    found: dict[str, Any] = {"by_variables": generate(work, ["python", "generate_video.py"], exported(), handed=False)}
    with up(work, {}) as (container, process):
        found["seconds_to_healthy"] = until_healthy(work, container, {})
        say("POST /runsync")
        found["runsync"] = made(work, runsync(port)["result"])
        say("generate, by flags, beside the service")
        found["by_flags"] = generate(work, typed(), {}, handed=True)
        process.send_signal(signal.SIGTERM)
        # `buildah` kills what it runs when it is told to end, so its exit code says nothing of the service.
        process.wait(PATIENCE)
        found["healthy_when_stopped"] = healthy(work, container, {})
    return found


def sizes(work: compose.Project) -> dict[str, Any]:
    about = json.loads(work.buildah.ask("images", "--json", work.image))[0]
    mount = Path(work.buildah.ask("mount", container := work.container()))
    models = [str(path) for path in (mount / "models").rglob("*") if path.is_file()]
    work.buildah.ask("rm", container)
    return {"image_size": about["size"], "weights_in_image": models, "user": config(work)["User"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--storage", type=Path, help="folder for images, removed at the end; a tmpfs is fastest")
    options = parser.parse_args()
    missing = [tool for tool in TOOLS if shutil.which(tool) is None] + ([] if os.geteuid() == 0 else ["root"])
    if missing:
        say(f"needs {', '.join(missing)}. On Debian, as root: apt-get install {' '.join(TOOLS)}")
        return 2
    scratch = Path(tempfile.mkdtemp(prefix="wan2-i2v-container-", dir=options.storage))
    buildah = compose.Buildah(scratch)
    try:
        begin = time.monotonic()
        name = re.findall(r"^ARG BASE_IMAGE=(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0]
        base(buildah, name, scratch)
        based = time.monotonic()
        build(buildah, scratch)
        built = time.monotonic()
        work = project(buildah, scratch)
        found = sizes(work) | measure(work)
    finally:
        subprocess.run(buildah.command("rm", "--all"), stdout=subprocess.DEVNULL)
        subprocess.run(buildah.command("rmi", "--all", "--force"), stdout=subprocess.DEVNULL)
        shutil.rmtree(scratch, ignore_errors=True)
    begun = {"date": datetime.now(UTC).date().isoformat(), "cores": os.cpu_count()}
    print(
        json.dumps(begun | {"seconds_for_base": round(based - begin), "seconds_to_build": round(built - based)} | found)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
