"""A video through the `runpod` package (pip install runpod), from a server of this project.

Run: RUNPOD_ENDPOINT_BASE_URL=http://127.0.0.1:8080/v2 RUNPOD_API_KEY=<token> python examples/runpod_client.py [PICTURE]
"""

import base64
import os
import sys
from pathlib import Path

import runpod

picture = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures" / "boat.png"
given = {
    "input_image": base64.b64encode(picture.read_bytes()).decode(),
    "prompt": "The boat drifts to the left.",
    "size": "64*64",
    "length": 5,
    "fps": 16,
    "seed": 7,
    "return_video": True,
}
# Any endpoint id will do; without a token on the server, any key.
job = runpod.Endpoint("wan2-i2v", api_key=os.environ.get("RUNPOD_API_KEY", "none")).run(given)
output = job.output(timeout=3600)
print(job.job_id, job.status(), output["message"])
if output["status"] == "DONE":
    Path(f"{job.job_id}.mp4").write_bytes(base64.b64decode(output["video"]))
    print(f"{job.job_id}.mp4", output["num_frames"], "frames")
