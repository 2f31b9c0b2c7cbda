"""What RunPod's worker SDK speaks to: hands out jobs, takes progress and results, tells it to stop one."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

POLL_SECONDS = 1.0
"""How long a request for work is held; RunPod holds it for 90 s."""


class ControlPlane:
    """`give` jobs before or while a worker runs; `results` and `progress` by job id are what it said."""

    def __init__(self) -> None:
        self.waiting: list[dict[str, Any]] = []
        self.stopping: list[str] = []
        self.results: dict[str, dict[str, Any]] = {}
        self.progress: dict[str, list[dict[str, Any]]] = {}
        self.keys: set[str | None] = set()
        self.news = threading.Condition()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> ControlPlane:
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def environment(self) -> dict[str, str]:
        """What RunPod sets in its workers."""
        base = f"http://127.0.0.1:{self.server.server_port}/v2/ep"
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=x",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=x",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=x",
            "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID",
            "RUNPOD_POD_ID": "pod1",
            "RUNPOD_AI_API_KEY": "worker-key",
            "RUNPOD_PING_INTERVAL": "1000",
            # Without these the SDK looks for a GPU and connects to a public address before it starts (trap 13).
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
        }

    def wait(self, ready: Any, seconds: float) -> None:
        with self.news:
            assert self.news.wait_for(ready, seconds), f"the worker said only {self.results} {self.progress}"

    def _handler(plane) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                source = {"job-take": plane.waiting, "job-stop": plane.stopping}
                queue = next((queue for name, queue in source.items() if f"/{name}/" in self.path), None)
                plane.keys.add(self.headers.get("Authorization"))
                if queue is None:
                    return self.answer(200, {})
                deadline = time.monotonic() + POLL_SECONDS
                while time.monotonic() < deadline:
                    with plane.news:
                        if queue:
                            item = queue.pop(0)
                            return self.answer(200, item if isinstance(item, dict) else {"jobsToStop": [item]})
                    time.sleep(0.05)
                return self.answer(204, None)

            def do_POST(self) -> None:
                said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                job_id = self.path.partition("?")[0].rpartition("/")[2]
                with plane.news:
                    if said.get("status") == "IN_PROGRESS":
                        plane.progress.setdefault(job_id, []).append(said["output"])
                    else:
                        plane.results[job_id] = said
                    plane.news.notify_all()
                self.answer(200, {})

            def answer(self, status: int, body: Any) -> None:
                data = b"" if body is None else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler
