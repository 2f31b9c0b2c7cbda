"""A scripted double of the server for tests of the web page: the API's contract with plans by the real planner.

Nothing computes here: a test moves its jobs by hand, into states too that a real server reaches only by accident, takes the
server away and brings it back. Whatever is asked of it is in `asked`.
"""

from __future__ import annotations

import hashlib
import io
import json
import mimetypes
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from PIL import Image, UnidentifiedImageError

import wan2_i2v
from clips import moving
from wan2_i2v import api
from wan2_i2v.errors import Wan2I2VError
from wan2_i2v.media.formats import ClipFormat
from wan2_i2v.media.writer import write_clip
from wan2_i2v.presets import PROMPT_PRESETS
from wan2_i2v.prompting.lint import lint
from wan2_i2v.request import GenerateRequest

STATIC = Path(wan2_i2v.__file__).parent / "doors" / "http" / "static"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"
)
PLAN_SUMMARY = (
    "width",
    "height",
    "num_frames",
    "fps",
    "seed",
    "recipe",
    "sampler",
    "scheduler",
    "guidance",
    "container",
)
PLACES = {"image", "last_image", "output", "job_id", "overwrite", "device", "model"}
OVER = ("done", "failed", "cancelled", "timed_out", "set_aside")


class Double:
    """`start` it, and `stop` it: its jobs, pictures and events are still there when it starts again, on the same port.

    `slow`: seconds that it thinks about each request for a job.
    """

    def __init__(self, folder: Path, token: str = "") -> None:
        self.folder, self.token, self.port = folder, token, 0
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pictures: dict[str, Path] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.asked: list[tuple[str, str]] = []
        self.news = threading.Condition()
        self.running = False
        self.refuse_jobs: tuple[int, str, str] | None = None
        self.slow = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        double = self

        class Bound(Handler):
            pass

        Bound.double = double
        self.running = True
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Bound)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def stop(self) -> None:
        if not self.running:
            return
        self.running = False
        with self.news:
            self.news.notify_all()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def tell(self, kind: str, job_id: str, **data: Any) -> None:
        with self.news:
            self.events.append((kind, {"job_id": job_id, "at": time.time(), **data}))
            self.news.notify_all()

    # --- what tests do to jobs ---

    def move(self, job_id: str, state: str, **changes: Any) -> None:
        """Change a job's state and tell it."""
        job = self.jobs[job_id]
        job.update(state=state, **changes)
        if state == "running":
            job["started_at"] = time.time()
        if state in OVER:
            job["finished_at"] = time.time()
        self.tell("state", job_id, state=state, job=self.view(job))

    def progress(self, job_id: str, **data: Any) -> None:
        self.jobs[job_id].update(data)
        self.tell("progress", job_id, **data)

    def preview(self, job_id: str, step: int) -> None:
        self.jobs[job_id]["preview_step"] = step
        self.tell("preview", job_id, step=step)

    def finish(self, job_id: str, passed: bool = True, seconds: float | None = None) -> None:
        plan = self.jobs[job_id]["plan"]
        frames = plan["num_frames"] if seconds is None else round(seconds * plan["fps"])
        clip = ClipFormat("mp4", plan["width"], plan["height"], plan["fps"], 18)
        seed = plan["seed"] % 1000
        write_clip(self.folder / f"{job_id}.mp4", moving(frames, plan["width"], plan["height"], seed), clip)
        checks = [{"name": "motion", "passed": passed, "state": "judged", "sentence": "the picture moves"}]
        self.move(job_id, "done", fraction=1.0, verification=checks)

    def add(self, picture: bytes, settings: dict[str, Any], job_id: str) -> dict[str, Any]:
        """A job as if it had been submitted."""
        sha = self.keep(picture)["picture"]
        return self.submit({"picture": sha, "settings": settings, "job_id": job_id})[1]

    # --- what the API does ---

    def keep(self, content: bytes) -> dict[str, Any]:
        sha = hashlib.sha256(content).hexdigest()
        with Image.open(io.BytesIO(content)) as image:
            width, height, kind = image.width, image.height, image.format
        path = self.folder / f"{sha}.png"
        path.write_bytes(content)
        self.pictures[sha] = path
        return {"picture": sha, "width": width, "height": height, "facts": {"format": kind}, "warnings": []}

    def plan(self, body: dict[str, Any]) -> dict[str, Any]:
        last = body.get("last_picture")
        ends = {"last_image": str(self.pictures[last])} if last else {}
        request = GenerateRequest(image=str(self.pictures[body["picture"]]), **ends, **body["settings"])
        made = api.plan(request)
        found = lint(made.prompt, made.negative_prompt, negative_evaluated=made.uses_negative_prompt)
        hints = [
            {"rule": one.rule, "field": one.field, "span": one.span, "message": one.message, "instead": one.instead}
            for one in found
        ]
        return made.model_dump(mode="json") | {"duration": made.duration_s, "hints": hints}

    def submit(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        job_id = body["job_id"]
        if job_id in self.jobs:
            return 200, self.view(self.jobs[job_id])
        plan = self.plan(body)
        links = {part: f"/api/jobs/{job_id}/{part}" for part in ("video", "thumbnail", "preview", "record")}
        self.jobs[job_id] = job = {
            "id": job_id,
            "state": "queued",
            "created_at": time.time(),
            "started_at": None,
            "finished_at": None,
            "priority": 0,
            "attempts": 0,
            "stage": None,
            "done": None,
            "total": None,
            "fraction": 0.0,
            "eta_seconds": None,
            "picture": body["picture"],
            "last_picture": body.get("last_picture"),
            "settings": body["settings"],
            "plan": {name: plan[name] for name in (*PLAN_SUMMARY, "prompt", "negative_prompt")},
            "record": plan,
            "error": None,
            "verification": None,
            "rating": None,
            "links": links | {"self": f"/api/jobs/{job_id}"},
        }
        self.tell("state", job_id, state="queued", job=self.view(job))
        return 201, self.view(job)

    def view(self, job: dict[str, Any]) -> dict[str, Any]:
        waiting = [one["id"] for one in self.jobs.values() if one["state"] == "queued"]
        position = waiting.index(job["id"]) if job["state"] == "queued" else None
        return {name: value for name, value in job.items() if name != "record"} | {"position": position}

    def list(self, query: dict[str, list[str]]) -> dict[str, Any]:
        words = query.get("search", [""])[0].lower().split()
        found = [
            job
            for job in reversed(self.jobs.values())
            if ("state" not in query or job["state"] in query["state"])
            and all(word in job["plan"]["prompt"].lower() for word in words)
        ]
        first, limit = int(query.get("before", ["0"])[0]), int(query["limit"][0])
        more = len(found) > first + limit
        page = [self.view(job) for job in found[first : first + limit]]
        return {"jobs": page, "next": str(first + limit) if more else None}


class Handler(BaseHTTPRequestHandler):
    double: Double
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer("GET")

    def do_POST(self) -> None:
        self.answer("POST")

    def do_DELETE(self) -> None:
        self.answer("DELETE")

    def answer(self, method: str) -> None:
        parts = urlsplit(self.path)
        self.double.asked.append((method, self.path))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self.route(method, unquote(parts.path), parse_qs(parts.query))
        except Wan2I2VError as error:
            self.json(error.http_status, {"error": error.to_dict()})
        except (BrokenPipeError, ConnectionResetError):
            # The browser left, as it does when a page is closed.
            self.close_connection = True

    def route(self, method: str, path: str, query: dict[str, list[str]]) -> None:
        double = self.double
        if path == "/":
            return self.file(STATIC / "index.html")
        if path.startswith("/static/"):
            return self.file(STATIC / path.removeprefix("/static/"))
        if path == "/api/session":
            return self.session(method)
        if double.token and f"session={double.token}" not in self.headers.get("Cookie", ""):
            return self.error(401, "unauthorized", "this server needs a token.")
        if path == "/api/events":
            return self.stream(query)
        if path.startswith("/api/jobs/"):
            return self.job(method, *path.removeprefix("/api/jobs/").partition("/")[::2])
        if path.startswith("/api/pictures/"):
            return self.file(double.pictures.get(path.removeprefix("/api/pictures/"), Path("none")))
        return self.collection(method, path, query)

    def session(self, method: str) -> None:
        if method == "POST" and json.loads(self.body)["token"] != self.double.token:
            return self.error(401, "unauthorized", "the token is wrong.")
        return self.send(204, b"", {"Set-Cookie": f"session={self.double.token}; HttpOnly; SameSite=Strict; Path=/"})

    def collection(self, method: str, path: str, query: dict[str, list[str]]) -> None:
        double = self.double
        if (method, path) == ("POST", "/api/pictures"):
            try:
                return self.json(201, double.keep(self.body))
            except UnidentifiedImageError:
                return self.error(415, "no_picture", "this is not a picture.")
        if (method, path) == ("POST", "/api/plan"):
            return self.json(200, double.plan(json.loads(self.body)))
        if (method, path) == ("POST", "/api/jobs"):
            if double.refuse_jobs:
                return self.error(*double.refuse_jobs)
            return self.json(*double.submit(json.loads(self.body)))
        if path == "/api/jobs":
            return self.json(200, double.list(query))
        return self.json(200, self.facts(path))

    def facts(self, path: str) -> dict[str, Any]:
        if path == "/api/info":
            device = {"name": "cpu", "label": "CPU", "kind": "cpu", "total_bytes": None, "ram_bytes": 24 * 2**30}
            limits = {"max_upload_bytes": 2**20, "max_pixels": 10**8}
            info = {"version": "test", "model": "mini", "device": device, "limits": limits}
            return info | {"needs_token": bool(self.double.token)}
        if path == "/api/presets":
            presets = PROMPT_PRESETS.values()
            return {
                "presets": [
                    {
                        "name": one.name,
                        "title": one.name.replace("-", " ").capitalize(),
                        "prompt": one.prompt,
                        "negative_prompt": one.negative_prompt,
                        "settings": {"num_frames": one.num_frames},
                        "about": f"{one.num_frames} frames",
                    }
                    for one in presets
                ]
            }
        if path == "/api/models":
            return {"models": [{"name": "mini", "present": True, "sizes": [[64, 64], [96, 64]]}]}
        assert path == "/api/schema", path
        schema = GenerateRequest.model_json_schema()
        return schema | {"properties": {k: v for k, v in schema["properties"].items() if k not in PLACES}}

    def job(self, method: str, job_id: str, part: str) -> None:
        double = self.double
        if job_id not in double.jobs:
            return self.error(404, "job_not_found", f"no job {job_id}.")
        job = double.jobs[job_id]
        if method == "DELETE":
            del double.jobs[job_id]
            return self.send(204, b"")
        time.sleep(double.slow)
        if part in ("cancel", "retry"):
            double.move(job_id, {"cancel": "cancelled", "retry": "queued"}[part], error=None)
        elif part == "rating":
            job["rating"] = json.loads(self.body)["rating"]
            double.tell("rating", job_id, rating=job["rating"])
        elif part == "again":
            settings = job["settings"] | {"seed": job["plan"]["seed"] + 1}
            body = {"picture": job["picture"], "settings": settings, "job_id": f"{job_id}-again"}
            return self.json(*double.submit(body))
        elif part == "record":
            verification = {"checks": job["verification"]}
            plan = job["record"]
            return self.json(200, {"plan": plan, "verification": verification, "seconds": {"decode": 1.5}})
        elif part == "video":
            return self.file(double.folder / f"{job_id}.mp4")
        elif part in ("thumbnail", "preview"):
            return self.file(double.pictures[job["picture"]])
        return self.json(200, double.view(job))

    # --- answers ---

    def stream(self, query: dict[str, list[str]]) -> None:
        double = self.double
        given = self.headers.get("Last-Event-ID") or query.get("last", [None])[0]
        position = len(double.events) if given is None else int(given)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b": hello\n\n")
        while double.running:
            with double.news:
                if len(double.events) == position and double.running:
                    double.news.wait(0.5)
                fresh = double.events[position:]
            for kind, data in fresh:
                position += 1
                self.wfile.write(f"id: {position}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode())
        self.close_connection = True

    def json(self, status: int, data: dict[str, Any]) -> None:
        self.send(status, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def error(self, status: int, code: str, message: str, field: str | None = None) -> None:
        self.json(status, {"error": {"code": code, "field": field, "message": message}})

    def file(self, path: Path) -> None:
        if not path.is_file():
            return self.error(404, "not_found", "there is no such file.")
        content = path.read_bytes()
        headers = {"Content-Type": mimetypes.guess_type(path.name)[0] or "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self.send(200, content, headers | {"Accept-Ranges": "bytes"})
        first, last = int(asked[1]), int(asked[2] or len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self.send(206, content[first : last + 1], headers)

    def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Security-Policy": CSP} | (headers or {})).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        if not self.double.running:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
