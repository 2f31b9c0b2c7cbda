"""The enhancer against a real server on this machine: what it is sent, and that nothing it does can cost the prompt."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from wan2_i2v.doors.cli.app import main
from wan2_i2v.prompting.enhance import LARGEST_ANSWER, Endpoint, enhance

GIVEN = "a skater turns"
BETTER = "A figure skater turns slowly on the ice with raised arms, lips closed, in soft arena light."


@dataclass
class Service:
    """An OpenAI-compatible service whose answers a test chooses; keeps what it was asked."""

    answer: Callable[[dict[str, Any]], tuple[int, bytes]]
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.url, "some-model", "secret")


def completion(text: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


def sees(body: dict[str, Any]) -> bool:
    return not isinstance(body["messages"][1]["content"], str)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service(lambda body: (200, completion(BETTER)))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.asked.append(body)
            made.headers.append(dict(self.headers))
            made.paths.append(self.path)
            status, content = made.answer(body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            try:
                self.wfile.write(content)
            except ConnectionError:
                self.close_connection = True  # an answer without end is not read to its end

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "wide.png"
    Image.new("RGBA", (1600, 400), (200, 30, 30, 255)).save(path)
    return path


def test_the_prompt_is_written_out(service):
    better = enhance(GIVEN, None, service.endpoint)
    assert (better.prompt, better.changed, better.saw_picture) == (BETTER, True, False)
    assert service.paths == ["/v1/chat/completions"]
    assert service.headers[0]["Authorization"] == "Bearer secret"
    assert service.asked[0]["model"] == "some-model"
    system, user = service.asked[0]["messages"]
    assert "closed lips" in system["content"] and user == {"role": "user", "content": GIVEN}


def test_speech_is_allowed_when_asked_for(service):
    enhance(GIVEN, None, service.endpoint, allow_speech=True)
    assert "closed lips" not in service.asked[0]["messages"][0]["content"]


def test_the_picture_is_sent_small_to_models_that_see(service, picture):
    assert enhance(GIVEN, picture, service.endpoint).saw_picture
    text, image = service.asked[0]["messages"][1]["content"]
    assert text == {"type": "text", "text": GIVEN}
    kind, _, content = image["image_url"]["url"].partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as sent:
        assert sent.size == (768, 192)


@pytest.mark.parametrize("status", [400, 415, 500])
def test_a_model_that_does_not_see_is_asked_without_the_picture(service, picture, status):
    service.answer = lambda body: (status, b"no images") if sees(body) else (200, completion(BETTER))
    better = enhance(GIVEN, picture, service.endpoint)
    assert (better.prompt, better.saw_picture, len(service.asked)) == (BETTER, False, 2)


@pytest.mark.parametrize(
    "text",
    [f'"{BETTER}"', f"<think>A skater…\nHm.</think>\n\n{BETTER}\n", f"**Prompt:** {BETTER}", f"Prompt: “{BETTER}”"],
)
def test_what_models_put_around_a_prompt_is_taken_off(service, text):
    service.answer = lambda body: (200, completion(text))
    assert enhance(GIVEN, None, service.endpoint).prompt == BETTER


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((401, b'{"error": "bad key"}'), "answered 401"),
        ((503, b"busy"), "answered 503"),
        ((200, b"<html>hello</html>"), "no chat completion"),
        ((200, b"[]"), "no chat completion"),
        ((200, b'{"choices": []}'), "no chat completion"),
        ((200, completion(None)), "no text"),
        ((200, completion("")), "has 0 characters"),
        ((200, completion("<think>and thinks and thinks")), "has 0 characters"),
        ((200, completion("word " * 2000)), "characters"),
        ((200, b"x" * (LARGEST_ANSWER + 1)), "no end"),
        ((200, b"\xff\xfe\x00"), "no chat completion"),
    ],
)
def test_a_service_that_fails_costs_a_warning(service, answer, why):
    service.answer = lambda body: answer
    better = enhance(GIVEN, None, service.endpoint)
    assert (better.prompt, better.changed) == (GIVEN, False)
    assert why in better.problem


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/v1", "nonsense", "http://[", "ftp://127.0.0.1/v1", "http://"])
def test_a_service_that_is_not_there_costs_a_warning(url):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    better = enhance(GIVEN, None, Endpoint(url.format(port=port), "m"))
    assert better.prompt == GIVEN and "does not answer" in better.problem


def test_a_picture_that_is_none_costs_a_warning(service, tmp_path):
    better = enhance(GIVEN, tmp_path / "none.png", service.endpoint)
    assert better.prompt == GIVEN and "none.png" in better.problem and not service.asked


def test_command(service, picture, monkeypatch, capsys):
    monkeypatch.setenv("WAN2_I2V_ENHANCE_URL", service.url)
    monkeypatch.setenv("WAN2_I2V_ENHANCE_MODEL", "some-model")
    assert main(["prompt", GIVEN, "--enhance", "--image", str(picture), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["prompt"], told["given"], told["enhanced"]) == (BETTER, GIVEN, True)
    assert "lip movement" in told["negative_prompt"]
    assert "Authorization" not in service.headers[0]


def test_command_goes_on_without_a_service(monkeypatch, capsys):
    monkeypatch.delenv("WAN2_I2V_ENHANCE_URL", raising=False)
    assert main(["prompt", "a skater", "--enhance"]) == 0
    told = capsys.readouterr()
    assert "WAN2_I2V_ENHANCE_URL" in told.err and "lighting" in told.out


def test_the_command_asks_nobody_unless_told_to(service, monkeypatch, capsys):
    monkeypatch.setenv("WAN2_I2V_ENHANCE_URL", service.url)
    monkeypatch.setenv("WAN2_I2V_ENHANCE_MODEL", "some-model")
    assert main(["prompt", GIVEN]) == 0
    assert not service.asked
    assert BETTER not in capsys.readouterr().out


def test_the_command_counts_tokens(capsys):
    assert main(["prompt", "A man walks in soft light. " * 200, "--json"]) == 0
    assert "too-long" in {finding["rule"] for finding in json.loads(capsys.readouterr().out)["findings"]}
