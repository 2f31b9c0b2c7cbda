"""Downloads from a real local server: whole, cut off, killed and gone on with, damaged, refused; removal and checking."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hub import COMMIT, Hub
from huggingface_hub import constants
from safetensors.torch import save_file

from wan2_i2v.doors.cli import main
from wan2_i2v.errors import Cancelled, CheckpointError, OutputError
from wan2_i2v.models import catalog, download, shelf
from wan2_i2v.models.catalog import MINI

LARGE = bytes(range(256)) * (25 * 2**12)
"""25 MiB: huggingface_hub hands over 10 MB at a time."""

ROWS = """
[files.large]
repo = "me/thing"
path = "sub/large.safetensors"
[files.small]
repo = "me/thing"
path = "small.safetensors"
[loras.both]
both = "large"
licence = "MIT"
[loras.pair]
high = "small"
low = "large"
[loras.gone]
both = "nowhere"
[files.nowhere]
repo = "me/thing"
path = "nowhere.safetensors"
[models.whole]
repo = "me/mini"
boundary = 0.9
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    mini = {str(file.relative_to(MINI)): file.read_bytes() for file in MINI.rglob("*") if file.is_file()}
    (tmp_path / "models.toml").write_text(ROWS)
    thing = {"sub/large.safetensors": LARGE, "small.safetensors": b"small"}
    with Hub({"me/thing": thing, "me/mini": mini | {"README.md": b"not taken"}}) as server:
        for name, value in {
            "HF_ENDPOINT": server.url,
            "HOME": str(tmp_path),
            "HF_HOME": str(tmp_path / "hf"),
            "WAN2_I2V_MODELS": str(tmp_path / "models"),
            "WAN2_I2V_MODELS_FILE": str(tmp_path / "models.toml"),
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        # `make` sets it, so that nothing but these tests' own server could be asked.
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield server


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and ".lock" not in path.name}


def test_pull_verify_path_rm(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pull", "both"]) == 0
    said = capsys.readouterr()
    place = tmp_path / "models" / "me--thing" / "sub" / "large.safetensors"
    assert said.out.strip() == str(place)
    assert "Licence: MIT" in said.err
    assert place.read_bytes() == LARGE
    noted = download.ledger("me/thing")["sub/large.safetensors"]
    assert (noted["bytes"], noted["commit"], len(noted["sha256"])) == (len(LARGE), COMMIT, 64)

    asked = len(hub.requests)
    assert main(["models", "pull", "both", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == [str(place)]
    assert len(hub.requests) == asked  # what is here is not asked for again

    assert main(["models", "path", "both"]) == 0
    assert str(place) in capsys.readouterr().out
    assert main(["models", "rm", "both", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"]
    assert files(tmp_path / "models") == {"me--thing/.downloaded.json"}
    assert main(["models", "rm", "both"]) == 0
    assert capsys.readouterr().err == "nothing of both is here that could be removed.\n"
    assert main(["models", "path", "both"]) == CheckpointError.exit_code
    assert "wan2-i2v models pull both" in capsys.readouterr().err


def test_a_whole_repository(hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert catalog.look("whole").files is None
    assert main(["models", "pull", "whole", "--quiet"]) == 0
    assert not [path for path in download.ledger("me/mini") if "README" in path]
    assert catalog.find("whole").dim == 256
    capsys.readouterr()
    assert main(["models", "verify", "whole", "--json"]) == 0
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(finding["ok"] for finding in findings)
    assert "all names and shapes fit" in findings[-1]["found"]
    asked = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert len(download.pull("whole")) == len(download.ledger("me/mini"))
    assert main(["models", "rm", "whole"]) == 0
    assert len(hub.requests) == asked
    assert catalog.look("whole").files is None


def test_a_repository_that_is_half_here_is_not_here(hub: Hub) -> None:
    del hub.repos["me/mini"]["vae/config.json"]
    half = download.entries("whole")
    assert half[-1].path == "model_index.json"
    for entry in half[:-1]:
        download._fetch(entry, lambda entry, done: None)
    assert catalog.look("whole").files is None


def test_a_connection_that_breaks_goes_on_by_itself(hub: Hub) -> None:
    hub.cut_after = 21 * 2**20
    (place,) = download.pull("both")
    assert place.read_bytes() == LARGE
    ranges = [asked for method, _, asked, _ in hub.requests if method == "GET"]
    assert ranges[0] == "" and ranges[1].startswith("bytes=")


def test_a_killed_download_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.stall_after = 21 * 2**20
    command = [sys.executable, "-m", "wan2_i2v.doors.cli", "models", "pull", "both"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert hub.stalled.wait(30)
    folder = tmp_path / "models" / "me--thing" / "sub"

    def begun() -> int:
        return max((part.stat().st_size for part in folder.glob("*.part")), default=0)

    deadline = 600
    while begun() == 0 and deadline:  # what has arrived is being written
        deadline -= 1
        hub.going.wait(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    length = begun()
    assert 0 < length < len(LARGE)
    assert catalog_has("both") is None
    hub.stall_after = 0
    hub.requests.clear()
    (place,) = download.pull("both")
    assert place.read_bytes() == LARGE
    assert [asked for method, _, asked, _ in hub.requests if method == "GET"] == [f"bytes={length}-"]
    assert not list(folder.glob("*.part"))


def test_a_part_that_is_longer_than_the_file_is_begun_anew(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "me--thing" / "sub"
    folder.mkdir(parents=True)
    digest = hashlib.sha256(LARGE).hexdigest()
    (folder / f"large.safetensors.{digest[:16]}.part").write_bytes(LARGE + b"x")
    told: list[tuple[int, int]] = []
    (place,) = download.pull("both", lambda entry, done: told.append((entry.bytes, done)))
    assert place.read_bytes() == LARGE
    assert told[0] == (len(LARGE), 0)  # the length is the Hub's; the catalog does not know it


def test_a_damaged_ledger_is_named(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    download.pull("both")
    ledger = tmp_path / "models" / "me--thing" / download.LEDGER
    ledger.write_text("{cut")
    assert main(["models", "rm", "both"]) == CheckpointError.exit_code
    assert f"{ledger} is damaged" in capsys.readouterr().err


def test_an_empty_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "")
    assert download._endpoint() == "https://huggingface.co"


def catalog_has(name: str) -> Path | None:
    return shelf.locate(download.entries(name)[0])


def test_damaged_content_is_thrown_away(hub: Hub, tmp_path: Path) -> None:
    hub.wrong = bytes(len(LARGE))
    with pytest.raises(CheckpointError, match="arrived damaged"):
        download.pull("both")
    assert files(tmp_path / "models") == set()


@pytest.mark.parametrize("fact", [f"sha256 = '{'0' * 64}'", "bytes = 5"])
def test_another_file_than_the_catalog_knows_is_refused(hub: Hub, fact: str, tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(ROWS.replace('path = "sub/large', f'{fact}\npath = "sub/large'))
    with pytest.raises(CheckpointError, match=r"has another sub/large\.safetensors than the catalog knows"):
        download.pull("both")
    assert not [method for method, *_ in hub.requests if method == "GET"]


def test_what_the_hub_does_not_have_and_names_that_are_unknown(hub: Hub) -> None:
    with pytest.raises(CheckpointError, match=r"the Hub has no nowhere\.safetensors of me/thing"):
        download.pull("gone")
    with pytest.raises(CheckpointError, match=r"'pear' is not in the catalog\. Did you mean 'pair'"):
        download.pull("pear")


def test_no_room(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(ROWS.replace('path = "sub/large', f'bytes = {10**18}\npath = "sub/large'))
    with pytest.raises(OutputError, match=r"1000000001\.1 GB are needed .* WAN2_I2V_MODELS"):
        download.pull("both")


def test_no_room_for_a_file_whose_length_only_the_hub_knows(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**30 + len(LARGE) - 1))
    with pytest.raises(OutputError, match="are needed"):
        download.pull("both")
    assert not [method for method, *_ in hub.requests if method == "GET"]


def test_paths_of_a_row_are_looked_for_before_anything_is_downloaded(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = "[loras.mine]\nhigh = 'large'\nlow = '{}/mine.safetensors'\n"
    (tmp_path / "models.toml").write_text(ROWS + own.format(tmp_path))
    for command in ("pull", "path", "verify"):
        assert main(["models", command, "mine"]) == CheckpointError.exit_code
        told = capsys.readouterr()
        assert "'mine': low is" in told.err + told.out
    assert main(["models", "list", "--json"]) == 0
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert not rows["mine"]["here"] and "mine.safetensors" in rows["mine"]["problem"]
    assert hub.requests == []
    save_file({"blocks.0.attn1.to_q.lora_A.weight": torch.zeros(1, 1)}, tmp_path / "mine.safetensors")
    assert download.pull("mine")[1] == tmp_path / "mine.safetensors"
    assert main(["models", "path", "mine"]) == 0
    assert f"mine.safetensors: {tmp_path}/mine.safetensors" in capsys.readouterr().out


def test_a_download_that_is_stopped_says_that_it_goes_on(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_transfer", stop)
    assert main(["models", "pull", "both"]) == Cancelled.exit_code
    assert "the same command goes on where it stopped" in capsys.readouterr().err


def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE forbids"):
        download.pull("both")
    assert hub.requests == []


def test_no_hub_at_all(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"could not be had .* Run the command again"):
        download.pull("both")


def test_the_token_goes_to_the_hub_alone() -> None:
    headers = {"authorization": "Bearer x", "user-agent": "y"}
    assert download._headers_for("http://hub/a", "http://hub/b", headers) == headers
    assert download._headers_for("http://hub/a", "http://cdn/b", headers) == {"user-agent": "y"}


def test_rm_keeps_what_it_did_not_download_and_what_others_use(hub: Hub, tmp_path: Path) -> None:
    comfy = tmp_path / "ComfyUI" / "models" / "loras"
    comfy.mkdir(parents=True)
    save_file({"weight": torch.zeros(1)}, comfy / "small.safetensors")
    paths = download.pull("pair")
    assert paths[0] == comfy / "small.safetensors"
    kept, shared = download.remove("pair"), paths[1]
    assert [(removal.removed, removal.why) for removal in kept] == [
        (False, "it was not downloaded by wan2-i2v"),
        (False, "both, which is here too, uses it"),
    ]
    assert shared.is_file()
    shutil.rmtree(comfy)
    assert [removal.removed for removal in download.remove("both")] == [True]
    assert not shared.exists()


def test_verify_finds_what_is_wrong(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place,) = download.pull("both")
    place.write_bytes(LARGE[:-1] + b"x")
    assert main(["models", "verify", "both"]) == CheckpointError.exit_code
    assert "has SHA-256" in capsys.readouterr().out
    place.write_bytes(LARGE[:-1])
    assert main(["models", "verify", "both"]) == CheckpointError.exit_code
    assert "bytes instead of" in capsys.readouterr().out
    assert main(["models", "verify", "pair"]) == CheckpointError.exit_code
    assert "small.safetensors: is not here" in capsys.readouterr().out


def test_list(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    download.pull("both")
    assert main(["models", "list", "--json"]) == 0
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["mini"]["here"] and rows["both"]["here"]
    assert rows["pair"]["missing"] == ["small.safetensors"]
    assert rows["a14b-gguf"]["variants"][0] == "Q4_K_M"
    assert not rows["a14b-fp8"]["here"] and rows["a14b-fp8"]["bytes"] > 35e9
    fp8 = rows["a14b-fp8"]
    assert (fp8["experts"], fp8["boundary"], fp8["recipe"]) == (2, 0.9, "official")
    assert [len(file["sha256"]) for file in fp8["files"]] == [64] * 4
    assert (rows["rapid-aio"]["experts"], rows["rapid-aio"]["boundary"]) == (1, None)
    assert rows["mini"]["bytes"] > 1e6
    assert rows["lightx2v"]["recipe"] == "lightx2v"
    assert main(["models", "list"]) == 0
    assert "rapid-aio" in capsys.readouterr().out


def test_a_row_that_cannot_be_used_says_why_and_spoils_no_other(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[models.mine]\ncheckpoint = "/nowhere/a.safetensors"\n', encoding="utf-8")
    monkeypatch.setenv("WAN2_I2V_MODELS_FILE", str(own))
    assert main(["models", "list", "--json"]) == 0
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert not rows["mine"]["here"] and "/nowhere/a.safetensors" in rows["mine"]["problem"]
    assert rows["mini"]["here"] and not rows["mini"]["problem"]
    assert main(["models", "list"]) == 0
    assert "unusable" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["pull", "rm"])
def test_what_is_part_of_the_package_is_neither_pulled_nor_removed(
    command: str, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", command, "mini"]) == CheckpointError.exit_code
    assert "part of the package" in capsys.readouterr().err
