"""One picture becomes one video. Run: python examples/one_picture.py"""

from pathlib import Path

from wan2_i2v import GenerateRequest, generate

picture = Path(__file__).parent / "pictures" / "boat.png"
request = GenerateRequest(image=str(picture), prompt="The camera pans slowly to the right.", num_frames=25, seed=7)
record = generate(request)
print(record.video)
for check in record.verification.checks if record.verification else ():
    print("passed" if check.passed else "FAILED", check.message)
