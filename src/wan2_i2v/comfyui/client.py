"""Speaks to a ComfyUI server: HTTP here, the websocket in `line`. Nothing of ComfyUI is imported.

Comes in: the server's address. Goes out: JSON, files, and `Standing`, how a submitted graph is doing. Servers with
`/api/jobs` are asked there; older ones have a queue and a history, and say nothing of what is in neither.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx2

from wan2_i2v.comfyui.graph import Graph
from wan2_i2v.errors import ComfyUIError, ComfyUILost, is_out_of_memory
from wan2_i2v.workspace import replacing

TIMEOUT = httpx2.Timeout(60.0, connect=10.0)
UNKNOWN_ROUTE = (404, 405, 501)


@dataclass(frozen=True)
class Failure:
    """Why a graph ended without success: by hand (`interrupted`), or the error of a node."""

    interrupted: bool
    node_id: str = ""
    node_type: str = ""
    kind: str = ""
    message: str = ""

    @property
    def is_out_of_memory(self) -> bool:
        """Whether memory ran out, by the error's class or its text."""
        return self.kind.endswith(("OutOfMemoryError", "MemoryError")) or is_out_of_memory(RuntimeError(self.message))

    def __str__(self) -> str:
        if self.interrupted:
            return "it was interrupted there"
        where = f"node {self.node_id} ({self.node_type}): " if self.node_type else ""
        return f"{where}{self.kind + ': ' if self.kind else ''}{' '.join(self.message.split())}"


@dataclass(frozen=True)
class Standing:
    """How a submitted graph is doing. `ahead`: how many run before it; `outputs`: what its nodes left, by node id."""

    state: Literal["waiting", "running", "done", "failed", "unknown"]
    ahead: int = 0
    outputs: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed")


class ComfyUI:
    """One server. Close it with `close`. Every method raises ComfyUILost when it does not answer."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        # Proxies from the environment are for the internet; a render server is on this machine or nearby.
        # No connection is kept: it is asked seldom, and one from before a restart would be dead.
        limits = httpx2.Limits(max_keepalive_connections=0)
        self._http = httpx2.Client(base_url=self.url, timeout=TIMEOUT, limits=limits, trust_env=False)
        self._has_jobs = True

    def close(self) -> None:
        self._http.close()

    def system(self) -> dict[str, Any]:
        """Versions and devices; memory in bytes."""
        return self._object(self._json("GET", "/system_stats"))

    def node(self, class_type: str) -> dict[str, Any] | None:
        """What the server says of a node class; None when it has none of that name."""
        told = self._object(self._json("GET", f"/object_info/{class_type}")).get(class_type)
        return told if isinstance(told, dict) else None

    def folders(self) -> list[str]:
        """The kinds of model files that the server has folders for."""
        return [str(name) for name in self._json("GET", "/models")]

    def files(self, folder: str) -> list[str]:
        return [str(name) for name in self._json("GET", f"/models/{folder}")]

    def upload(self, picture: bytes, name: str) -> str:
        """Put a PNG into the server's input folder; its name there. The same bytes under the same name stay one file."""
        told = self._json(
            "POST", "/upload/image", files={"image": (name, picture, "image/png")}, data={"type": "input"}
        )
        told = self._object(told)
        folder = told.get("subfolder", "")
        return f"{folder}/{told['name']}" if folder else str(told["name"])

    def submit(self, graph: Graph, prompt_id: str, client_id: str) -> str:
        """Queue a graph; the id that the server gives it, `prompt_id` unless it is an old one.

        Raises ComfyUIError that names every node which the server refuses.
        """
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id}
        answer = self._send("POST", "/prompt", json=body)
        told = self._told(answer)
        if answer.status_code != 200 or told.get("node_errors"):
            if answer.status_code == 200:
                # It is queued all the same, without the refused part: which would make no file.
                self.cancel(str(told.get("prompt_id", prompt_id)))
            raise ComfyUIError(f"ComfyUI at {self.url} refuses the graph: {_refusal(told)}")
        return str(told["prompt_id"])

    def look(self, prompt_id: str) -> Standing:
        """How a graph is doing; `unknown` when the server has never heard of it, or forgot it in a restart."""
        if self._has_jobs:
            answer = self._send("GET", f"/api/jobs/{prompt_id}")
            if answer.is_success:
                return _of_job(self._told(answer), self._ahead(prompt_id))
            self._has_jobs = "json" in answer.headers.get("content-type", "")
        # History, queue, history: a graph that ends between the first two questions is found by the third.
        return (
            self._of_history(prompt_id)
            or self._of_queue(prompt_id)
            or self._of_history(prompt_id)
            or Standing("unknown")
        )

    def cancel(self, prompt_id: str) -> None:
        """Take a graph out of the queue, or stop it after the step in progress. No other graph is touched."""
        answer = self._send("POST", f"/api/jobs/{prompt_id}/cancel")
        if answer.is_success:
            return
        if answer.status_code not in UNKNOWN_ROUTE:
            raise self._error(answer)
        self._done("POST", "/queue", json={"delete": [prompt_id]})
        standing = self._of_queue(prompt_id)
        if standing is not None and standing.state == "running":
            # Servers that know no id here stop what runs, which is this one.
            self._done("POST", "/interrupt", json={"prompt_id": prompt_id})

    def free(self) -> None:
        """Have the server give up its models and caches when it is idle next."""
        self._done("POST", "/free", json={"unload_models": True, "free_memory": True})

    def download(self, file: dict[str, Any], target: Path) -> None:
        """Put one of the server's output files at `target`, whole or not at all.

        Raises ComfyUIError when the server does not hand it out.
        """
        place = {name: str(file.get(name, "")) for name in ("filename", "subfolder", "type")}
        try:
            with self._http.stream("GET", "/view", params=place) as answer:
                if not answer.is_success:
                    answer.read()
                    raise ComfyUIError(
                        f"ComfyUI at {self.url} says that it made {place['filename']} and does not hand it out "
                        f"(HTTP {answer.status_code})."
                    )
                with replacing(target) as temporary, temporary.open("wb") as copy:
                    for chunk in answer.iter_bytes():
                        copy.write(chunk)
        except httpx2.HTTPError as error:
            raise self._lost(error) from None

    def _of_history(self, prompt_id: str) -> Standing | None:
        told = self._object(self._json("GET", f"/history/{prompt_id}")).get(prompt_id)
        if not isinstance(told, dict):
            return None
        status = told.get("status") or {}
        outputs = told.get("outputs") or {}
        # Very old servers keep no status: what is in their history has ended, with files or without.
        if status.get("status_str", "success") == "success":
            return Standing("done", outputs=outputs)
        return Standing("failed", outputs=outputs, failure=_failure(status.get("messages") or []))

    def _of_queue(self, prompt_id: str) -> Standing | None:
        queue = self._object(self._json("GET", "/queue"))
        running = [item[1] for item in queue.get("queue_running", [])]
        if prompt_id in running:
            return Standing("running")
        waiting = sorted(queue.get("queue_pending", []), key=lambda item: item[0])
        place = next((index for index, item in enumerate(waiting) if item[1] == prompt_id), None)
        return None if place is None else Standing("waiting", ahead=len(running) + place)

    def _ahead(self, prompt_id: str) -> int:
        standing = self._of_queue(prompt_id)
        return 0 if standing is None else standing.ahead

    def _json(self, method: str, path: str, **content: Any) -> Any:
        answer = self._done(method, path, **content)
        try:
            return answer.json()
        except ValueError:
            raise self._foreign(path) from None

    def _done(self, method: str, path: str, **content: Any) -> httpx2.Response:
        answer = self._send(method, path, **content)
        if not answer.is_success:
            raise self._error(answer)
        return answer

    def _send(self, method: str, path: str, **content: Any) -> httpx2.Response:
        try:
            return self._http.request(method, path, **content)
        except httpx2.HTTPError as error:
            raise self._lost(error) from None

    def _told(self, answer: httpx2.Response) -> dict[str, Any]:
        try:
            return self._object(answer.json())
        except ValueError:
            raise self._error(answer) from None

    def _object(self, told: Any) -> dict[str, Any]:
        if not isinstance(told, dict):
            raise self._foreign(json.dumps(told)[:60])
        return told

    def _error(self, answer: httpx2.Response) -> ComfyUIError:
        text = " ".join(answer.text.split())[:200]
        request = f"{answer.request.method} {answer.request.url.path}"
        return ComfyUIError(
            f"ComfyUI at {self.url} answers {request} with HTTP {answer.status_code} {text}".rstrip() + "."
        )

    def _foreign(self, what: str) -> ComfyUIError:
        return ComfyUIError(f"what answers at {self.url} is no ComfyUI ({what}). Correct --comfyui-url.")

    def _lost(self, error: Exception) -> ComfyUILost:
        told = str(error) or type(error).__name__
        return ComfyUILost(
            f"ComfyUI at {self.url} does not answer ({told}). Start it, or correct --comfyui-url (WAN2_I2V_COMFYUI_URL)."
        )


def _of_job(job: dict[str, Any], ahead: int) -> Standing:
    """A job of `/api/jobs`."""
    status = job.get("status")
    outputs = job.get("outputs") or {}
    if status == "completed":
        return Standing("done", outputs=outputs)
    if status in ("failed", "cancelled"):
        told = job.get("execution_error")
        failure = (
            _node_failure(told) if status == "failed" and isinstance(told, dict) else Failure(status == "cancelled")
        )
        return Standing("failed", outputs=outputs, failure=failure)
    return Standing("running") if status == "in_progress" else Standing("waiting", ahead=ahead)


def _failure(messages: list[Any]) -> Failure:
    """The reason among a history's messages, the last of which tells how it ended."""
    for kind, data in reversed(messages):
        if kind == "execution_interrupted":
            return Failure(interrupted=True)
        if kind == "execution_error":
            return _node_failure(data)
    return Failure(interrupted=False, message="it failed and does not say why")


def _node_failure(data: dict[str, Any]) -> Failure:
    names = {"node_id": "node_id", "node_type": "node_type", "kind": "exception_type", "message": "exception_message"}
    return Failure(interrupted=False, **{name: str(data.get(key, "")) for name, key in names.items()})


def _refusal(told: dict[str, Any]) -> str:
    """All that the server finds wrong with a graph, in one sentence."""
    problems = []
    for node_id, node in (told.get("node_errors") or {}).items():
        for problem in node.get("errors", []):
            detail = problem.get("details") or ""
            text = f"{problem.get('message', '')}{': ' if detail else ''}{detail}"
            problems.append(f"node {node_id} ({node.get('class_type', '')}): {text}")
    error = told.get("error")
    if not problems and isinstance(error, dict):
        problems = [f"{error.get('message', '')} {error.get('details', '')}".strip()]
    return "; ".join(problems) or json.dumps(told)[:200]
