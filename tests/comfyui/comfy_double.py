"""A double of a ComfyUI server: real HTTP and a real websocket, answers as its protocol has them, videos as it makes them.

Written from the protocol of ComfyUI 0.3.64, with `/api/jobs` as newer servers have it when `new` is true. What the next
graphs meet stands in `script`: done, node error, out of memory, interrupted, stuck (until cancelled), no file, forgotten,
half refused. `said` is every request, as method and path.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import struct
import threading
import time
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

FILES = {
    "diffusion_models": [
        "wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors",
        "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors",
    ],
    "text_encoders": ["umt5_xxl_fp8_e4m3fn_scaled.safetensors"],
    "vae": ["wan/wan_2.1_vae.safetensors"],
    "loras": [
        "wan2.2_i2v_lightx2v_4steps_lora_v1_high_noise.safetensors",
        "wan2.2_i2v_lightx2v_4steps_lora_v1_low_noise.safetensors",
    ],
    "checkpoints": [],
}
CHOICES = {
    "UNETLoader": ("unet_name", "diffusion_models"),
    "CLIPLoader": ("clip_name", "text_encoders"),
    "VAELoader": ("vae_name", "vae"),
    "LoraLoaderModelOnly": ("lora_name", "loras"),
    "CheckpointLoaderSimple": ("ckpt_name", "checkpoints"),
}
PLAIN = (
    *("CLIPTextEncode", "LoadImage", "ModelSamplingSD3", "WanImageToVideo", "KSamplerAdvanced", "KSampler"),
    *("VAEDecode", "VAEDecodeTiled", "ImageFromBatch", "CreateVideo", "SaveVideo"),
)
OOM = "Allocation on device 0 would exceed allowed memory. This error means you ran out of memory on your GPU."


class ComfyDouble:
    """Start with `start`, end with `stop`; `restart` forgets queue and history and keeps port and files."""

    version = "0.3.64-double"

    def __init__(self, folder: Path, *, new: bool = False) -> None:
        self.new, self.files = new, {name: list(files) for name, files in FILES.items()}
        self.nodes = {*PLAIN, *CHOICES}
        self.script: deque[str] = deque()
        self.said: list[str] = []
        self.freed = self.step_seconds = 0.0
        self.keeps_ids = True
        self.vram = 24 * 2**30
        self._folder = folder
        self._port = 0
        self._forget()

    def _forget(self) -> None:
        self.history: dict[str, Any] = {}
        self.waiting: list[list[Any]] = []
        self.running: list[list[Any]] = []
        self.sockets: dict[str, WebSocket] = {}
        self._stopping: set[str] = set()
        self._count = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> ComfyDouble:
        config = uvicorn.Config(
            self._app(),
            port=self._port,
            ws="websockets-sansio",
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self._port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()

    def restart(self, after: float = 0.0) -> None:
        self.stop()
        self._forget()
        time.sleep(after)
        self.start()

    def cut(self) -> None:
        """Break every websocket without a word."""
        for connection in list(self._server.server_state.connections):
            if "WebSocket" in type(connection).__name__:
                connection.loop.call_soon_threadsafe(connection.transport.abort)

    def _app(self) -> Starlette:
        async def noted(request: Request) -> Response:
            self.said.append(f"{request.method} {request.url.path}")
            return await handlers[request.scope["route"].path](request)

        handlers = {
            "/system_stats": self._system, "/models": self._folders, "/models/{folder}": self._listing,
            "/object_info/{name}": self._info, "/upload/image": self._upload, "/prompt": self._prompt,
            "/queue": self._queue, "/history/{id}": self._history, "/interrupt": self._interrupt, "/free": self._free,
            "/view": self._view,
        }  # fmt: skip
        if self.new:
            handlers |= {"/api/jobs/{id}": self._job, "/api/jobs/{id}/cancel": self._cancel}
        routes: list[Any] = [Route(path, noted, methods=["GET", "POST"]) for path in handlers]
        return Starlette(routes=[*routes, WebSocketRoute("/ws", self._socket)])

    async def _socket(self, socket: WebSocket) -> None:
        await socket.accept()
        name = socket.query_params["clientId"]
        self.sockets[name] = socket
        await socket.send_json(
            {"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": name}}
        )
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await socket.receive_text()
        if self.sockets.get(name) is socket:
            del self.sockets[name]

    async def _system(self, request: Request) -> Response:
        device = {"name": "cuda:0 double", "type": "cuda", "vram_total": self.vram}
        return JSONResponse({"system": {"comfyui_version": self.version}, "devices": [device]})

    async def _folders(self, request: Request) -> Response:
        return JSONResponse([*self.files, "custom_nodes"])

    async def _listing(self, request: Request) -> Response:
        return JSONResponse(self.files[request.path_params["folder"]])

    async def _info(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.nodes:
            return JSONResponse({})
        required: dict[str, Any] = {}
        if name in CHOICES:
            field, folder = CHOICES[name]
            required[field] = [self.files[folder]]
        if name.startswith("KSampler"):
            required |= {"sampler_name": [["euler", "lcm"]], "scheduler": [["simple", "beta", "normal"]]}
        if name == "SaveVideo":
            required["format"] = ["COMBO", {"options": ["auto", "mp4"]}]
            required["codec"] = ["COMFY_DYNAMICCOMBO_V3", {}]
        if name == "LoadImage":
            required["image"] = [[], {"image_upload": True}]
        return JSONResponse({name: {"input": {"required": required}, "output_node": name == "SaveVideo"}})

    async def _upload(self, request: Request) -> Response:
        async with request.form() as form:
            file = form["image"]
            assert not isinstance(file, str)
            content, name = await file.read(), str(file.filename)
        path = self._folder / "input" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while path.exists() and hashlib.sha256(path.read_bytes()).digest() != hashlib.sha256(content).digest():
            path = path.with_name(f"{Path(name).stem} ({number}){Path(name).suffix}")
            number += 1
        path.write_bytes(content)
        return JSONResponse({"name": path.name, "subfolder": "", "type": "input"})

    async def _prompt(self, request: Request) -> Response:
        body = await request.json()
        graph = body["prompt"]
        unknown = [node["class_type"] for node in graph.values() if node["class_type"] not in self.nodes]
        if unknown:
            text = f"Cannot execute because node {unknown[0]} does not exist."
            error = {"type": "invalid_prompt", "message": text, "details": "", "extra_info": {}}
            return JSONResponse({"error": error, "node_errors": {}}, 400)
        self._count += 1
        prompt_id = body["prompt_id"] if self.keeps_ids else f"given-{self._count}"
        fate = self.script.popleft() if self.script else "done"
        if fate in ("refused", "half refused"):
            errors = [{"type": "value_not_in_list", "message": "Value not in list", "details": "unet_name: 'x'"}]
            errors_of = {"3": {"errors": errors, "dependent_outputs": ["20"], "class_type": "UNETLoader"}}
            if fate == "refused":
                error = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed", "details": ""}
                return JSONResponse({"error": error, "node_errors": errors_of}, 400)
            self.waiting.append([self._count, prompt_id, graph, {}, ["20"]])
            return JSONResponse({"prompt_id": prompt_id, "number": self._count, "node_errors": errors_of})
        item = [self._count, prompt_id, graph, {"client_id": body["client_id"]}, ["20"]]
        if fate != "forgotten":
            self.waiting.append(item)
            self._task = asyncio.get_running_loop().create_task(self._work(item, fate))
        return JSONResponse({"prompt_id": prompt_id, "number": self._count, "node_errors": {}})

    async def _work(self, item: list[Any], fate: str) -> None:
        while self.running or (self.waiting and self.waiting[0] is not item):
            await asyncio.sleep(0.01)
            if item not in self.waiting:
                return
        self.waiting.remove(item)
        self.running.append(item)
        prompt_id, graph, client = item[1], item[2], item[3]["client_id"]
        messages = [["execution_start", {"prompt_id": prompt_id}]]
        outputs: dict[str, Any] = {}
        await self._say(client, "execution_start", {"prompt_id": prompt_id})
        ending = await self._steps(prompt_id, graph, client, fate)
        if ending is None:
            ending = ["execution_success", {"prompt_id": prompt_id}]
            node_id = next(one for one, node in graph.items() if node["class_type"] == "SaveVideo")
            outputs = {} if fate == "no file" else {node_id: self._saved(graph, node_id)}
        messages.append(ending)
        status = "success" if ending[0] == "execution_success" else "error"
        told = {"status_str": status, "completed": status == "success", "messages": messages}
        # As in ComfyUI: it is said before it stands in the history.
        await self._say(client, ending[0], ending[1])
        await asyncio.sleep(0.02)
        self.running.remove(item)
        self.history[prompt_id] = {"prompt": item, "outputs": outputs, "status": told, "meta": {}}

    async def _steps(self, prompt_id: str, graph: dict[str, Any], client: str, fate: str) -> list[Any] | None:
        """Every sampler's steps; how it ended when that was no success."""
        for node_id, node in graph.items():
            if not node["class_type"].startswith("KSampler"):
                continue
            begin = node["inputs"].get("start_at_step", 0)
            steps = node["inputs"].get("end_at_step", node["inputs"]["steps"]) - begin
            for step in range(1, steps + 1):
                await asyncio.sleep(self.step_seconds)
                while fate == "stuck" and prompt_id not in self._stopping:
                    await asyncio.sleep(0.01)
                if prompt_id in self._stopping or fate == "interrupted":
                    return ["execution_interrupted", {"prompt_id": prompt_id, "node_id": node_id}]
                data = {"value": step, "max": steps, "prompt_id": prompt_id, "node": node_id}
                await self._say(client, "progress", data)
                await self._preview(client)
            if fate in ("node error", "out of memory"):
                kind = "torch.OutOfMemoryError" if fate == "out of memory" else "RuntimeError"
                text = OOM if fate == "out of memory" else "mat1 and mat2 shapes\ncannot be multiplied"
                about = {"prompt_id": prompt_id, "node_id": node_id, "node_type": node["class_type"]}
                return ["execution_error", about | {"exception_type": kind, "exception_message": text}]
        return None

    async def _say(self, client: str, kind: str, data: dict[str, Any]) -> None:
        socket = self.sockets.get(client)
        if socket is not None:
            with contextlib.suppress(Exception):
                await socket.send_json({"type": kind, "data": data})

    async def _preview(self, client: str) -> None:
        picture = io.BytesIO()
        Image.new("RGB", (16, 8), "red").save(picture, "JPEG")
        socket = self.sockets.get(client)
        if socket is not None:
            with contextlib.suppress(Exception):
                await socket.send_bytes(struct.pack(">II", 1, 1) + picture.getvalue())

    def _saved(self, graph: dict[str, Any], node_id: str) -> dict[str, Any]:
        prefix = graph[node_id]["inputs"]["filename_prefix"]
        name = f"{Path(prefix).name}_00001_.mp4"
        path = self._folder / "output" / Path(prefix).parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_as_comfyui(path, graph, self._folder / "input")
        place = {"filename": name, "subfolder": str(Path(prefix).parent), "type": "output"}
        return {"images": [place], "animated": [True]}

    async def _queue(self, request: Request) -> Response:
        if request.method == "POST":
            for prompt_id in (await request.json()).get("delete", []):
                self.waiting[:] = [item for item in self.waiting if item[1] != prompt_id]
            return Response()
        return JSONResponse({"queue_running": self.running, "queue_pending": self.waiting})

    async def _history(self, request: Request) -> Response:
        prompt_id = request.path_params["id"]
        return JSONResponse({prompt_id: self.history[prompt_id]} if prompt_id in self.history else {})

    async def _interrupt(self, request: Request) -> Response:
        self._stopping.add((await request.json())["prompt_id"])
        return Response()

    async def _free(self, request: Request) -> Response:
        self.freed += 1
        return Response()

    async def _view(self, request: Request) -> Response:
        asked = request.query_params
        path = self._folder / asked["type"] / asked["subfolder"] / asked["filename"]
        if not path.is_file():
            return Response(status_code=404)
        return Response(path.read_bytes(), media_type="video/mp4")

    async def _job(self, request: Request) -> Response:
        prompt_id = request.path_params["id"]
        if prompt_id in self.history:
            told = self.history[prompt_id]
            kind, data = told["status"]["messages"][-1]
            names = {
                "execution_success": "completed",
                "execution_interrupted": "cancelled",
                "execution_error": "failed",
            }
            error = {"execution_error": data} if kind == "execution_error" else {}
            return JSONResponse({"id": prompt_id, "status": names[kind], "outputs": told["outputs"]} | error)
        for status, items in (("in_progress", self.running), ("pending", self.waiting)):
            if any(item[1] == prompt_id for item in items):
                return JSONResponse({"id": prompt_id, "status": status})
        return JSONResponse({"error": "Job not found"}, 404)

    async def _cancel(self, request: Request) -> Response:
        prompt_id = request.path_params["id"]
        self.waiting[:] = [item for item in self.waiting if item[1] != prompt_id]
        self._stopping.add(prompt_id)
        return JSONResponse({"cancelled": True})


def write_as_comfyui(path: Path, graph: dict[str, Any], folder: Path) -> None:
    """The video of a graph: its picture, growing slowly, encoded as CreateVideo and SaveVideo do, colours untagged."""
    by_class = {node["class_type"]: node["inputs"] for node in graph.values()}
    start = by_class["WanImageToVideo"]
    count = by_class["ImageFromBatch"]["length"] if "ImageFromBatch" in by_class else start["length"]
    size = (start["width"], start["height"])
    with Image.open(folder / by_class["LoadImage"]["image"]) as picture:
        image = picture.convert("RGB").resize(size)
    with av.open(path, "w", options={"movflags": "use_metadata_tags"}) as output:
        output.metadata["prompt"] = json.dumps(graph)
        stream: Any = output.add_stream("h264", rate=Fraction(round(by_class["CreateVideo"]["fps"] * 1000), 1000))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(count):
            edge = index * 0.5
            box = (edge, edge * size[1] / size[0], size[0] - edge, size[1] - edge * size[1] / size[0])
            pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC, box))
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
