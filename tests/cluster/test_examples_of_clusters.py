"""The files for `ray up` and KubeRay: they parse, keep tokens on and start what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from wan2_i2v.doors.cli.serve import serve

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "cluster"


@pytest.mark.parametrize("name", ["ray-up", "kuberay"])
def test_tokens_are_on_everywhere(name):
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) and "RAY_AUTH_MODE=disabled" not in text
    starts = re.findall(r"^  - .*ray start.*$", text, re.MULTILINE)
    assert all("RAY_AUTH_MODE=token" in start for start in starts) and (starts or name == "kuberay")


def test_every_container_of_kuberay_has_the_token_and_the_models():
    spec = yaml.safe_load((FOLDER / "kuberay.yaml").read_text(encoding="utf-8"))["spec"]
    pods = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    containers = [container for pod in pods for container in pod["template"]["spec"]["containers"]]
    for container in containers:
        names = {variable["name"] for variable in container["env"]}
        assert {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "WAN2_I2V_MODELS"} <= names
        assert "/models" in {mount["mountPath"] for mount in container["volumeMounts"]}
    flags = {word[2:].replace("-", "_") for word in containers[1]["command"] if word.startswith("--")}
    assert flags <= set(serve.__annotations__)
