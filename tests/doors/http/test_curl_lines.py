"""The curl lines of README.md and docs/http.md, typed as they stand into a shell beside a running server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from servers import LiveServer, serving

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 600

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed; apt-get install curl")


@pytest.fixture(scope="module")
def live(checkpoint, tmp_path_factory):
    """A server; its folder is where one types. What curl is told beside the line leads it to the server's real port."""
    with serving(tmp_path_factory.mktemp("typed"), str(checkpoint)) as server:
        shutil.copy(ROOT / "examples" / "pictures" / "boat.png", server.root)
        shutil.copy(ROOT / "examples" / "pictures" / "boat.png", server.root / "input")
        told = f'connect-to = "localhost:8080:127.0.0.1:{server.port}"\nfail-with-body\nnoproxy = "*"\n'
        (server.root / ".curlrc").write_text(told)
        yield server


def commands(page: str) -> list[str]:
    """Every curl command of a page with the lines that it goes on in, comments off."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^    (curl .*(?:\n      .*)*)", text, flags=re.MULTILINE)
    return [re.sub(r"  +# .*", "", command) for command in found]


def typed(live: LiveServer, line: str) -> str:
    shell = ["bash", "-c", line]
    where = os.environ | {"CURL_HOME": str(live.root)}
    done = subprocess.run(shell, cwd=live.root, env=where, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def listened(live: LiveServer, line: str, word: str) -> None:
    """Type a line that does not end, and stop it once a line of its answer has `word`."""
    where = os.environ | {"CURL_HOME": str(live.root)}
    with subprocess.Popen(
        ["bash", "-c", f"exec {line}"], cwd=live.root, env=where, stdout=subprocess.PIPE, text=True
    ) as curl:
        assert curl.stdout is not None
        assert any(word in told for told in curl.stdout), f"{line} ended"
        curl.kill()


def test_a_job_from_picture_to_video(live):
    upload, plan, submit, events, look, video = commands("docs/http.md")
    picture = json.loads(typed(live, upload))["picture"]
    assert json.loads(typed(live, plan.replace("<id>", picture)))["num_frames"] == 17
    job = json.loads(typed(live, submit.replace("<id>", picture)))
    assert (job["id"], job["picture"]) == ("boat-1", picture)
    assert events.startswith("curl -sN localhost:8080/api/events")
    # A stream begins with what happens from now on: what was said before is asked for by its number.
    listened(live, events.replace("/api/events", "/api/events?last=0"), '"state":"done"')
    assert json.loads(typed(live, look))["state"] == "done"
    assert typed(live, video) == ""
    assert (live.root / "boat.mp4").read_bytes()[4:8] == b"ftyp"


def test_the_line_of_the_readme(live):
    (line,) = commands("README.md")
    reply = json.loads(typed(live, line))
    assert reply["status"] == "COMPLETED"
    assert reply["output"]


def test_a_line_that_is_refused_fails(live):
    _, plan, *_ = commands("docs/http.md")
    with pytest.raises(AssertionError, match="invalid_request"):
        typed(live, plan.replace("<id>", "no-id"))
