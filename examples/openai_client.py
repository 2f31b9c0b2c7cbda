"""A video through the `openai` package (pip install openai), from a server of this project.

Run: OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=<token> python examples/openai_client.py [PICTURE]
"""

import sys
from pathlib import Path

import openai

picture = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures" / "boat.png"
client = openai.OpenAI()
video = client.videos.create_and_poll(
    prompt="The boat drifts to the left.",
    input_reference=picture,
    size="64x64",
    # Whatever OpenAI's own API does not have goes here; the names are in docs/openai.md.
    extra_body={"num_frames": 5, "fps": 16, "seed": 7},
)
print(video.id, video.status)
if video.status == "completed":
    client.videos.download_content(video.id).write_to_file(f"{video.id}.mp4")
    print(f"{video.id}.mp4", video.size, f"{video.seconds} s")
else:
    print(video.error)
