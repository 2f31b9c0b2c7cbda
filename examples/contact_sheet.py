"""One PNG with a row of frames per video of a folder. Run: python examples/contact_sheet.py output"""

import sys
import tempfile
from pathlib import Path

from PIL import Image

from wan2_i2v.media.sheet import contact_sheet

FRAMES, GAP = 6, 4

folder = Path(sys.argv[1])
rows = []
with tempfile.TemporaryDirectory() as scratch:
    for number, video in enumerate(sorted(folder.glob("*.mp4"))):
        row = Path(scratch) / f"{number}.png"
        contact_sheet(video, row, columns=FRAMES, count=FRAMES)
        with Image.open(row) as picture:
            rows.append(picture.convert("RGB"))
if not rows:
    sys.exit(f"{folder} holds no .mp4 video")
height = sum(row.height + GAP for row in rows)
sheet = Image.new("RGB", (max(row.width for row in rows), height), "white")
top = 0
for row in rows:
    sheet.paste(row, (0, top))
    top += row.height + GAP
sheet.save(folder / "contact-sheet.png")
print(folder / "contact-sheet.png")
