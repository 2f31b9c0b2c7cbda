"""Every picture of a folder, with one load of each model. Run: python examples/many_pictures.py"""

from pathlib import Path

from wan2_i2v import GenerateRequest, generate_many
from wan2_i2v.events import Event, Started

pictures = sorted((Path(__file__).parent / "pictures").glob("*.png"))
prompt = "The camera zooms in slowly."


def show(event: Event) -> None:
    if isinstance(event, Started):
        print(event.job_id, event.stage)


requests = [GenerateRequest(image=str(picture), prompt=prompt, num_frames=9, seed=1) for picture in pictures]
for record in generate_many(requests, on_event=show):
    print(record.job_id, record.status, record.video or record.error)
