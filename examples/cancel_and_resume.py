"""Stop a job after its second denoise step and go on with it. Run: python examples/cancel_and_resume.py"""

from pathlib import Path

from wan2_i2v import Cancelled, GenerateRequest, generate, resume
from wan2_i2v.events import Event, Progress

picture = Path(__file__).parent / "pictures" / "house.png"
request = GenerateRequest(image=str(picture), prompt="The camera zooms in.", num_frames=9, seed=5, job_id="stopped")
steps_done: list[int] = []


def count(event: Event) -> None:
    if isinstance(event, Progress) and event.stage.startswith("denoise"):
        steps_done.append(event.done)


try:
    generate(request, on_event=count, cancelled=lambda: len(steps_done) >= 2)
except Cancelled as stop:
    print(stop)
record = resume("stopped")
print(record.video)
