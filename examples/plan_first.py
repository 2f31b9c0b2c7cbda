"""Look at the plan before anything is made. Run: python examples/plan_first.py"""

from pathlib import Path

from wan2_i2v import GenerateRequest, InvalidRequest, plan

picture = str(Path(__file__).parent / "pictures" / "boat.png")
planned = plan(GenerateRequest(image=picture, num_frames=72, recipe="official", seed=7))
print(f"{planned.width}×{planned.height}, {planned.num_frames} of {planned.model_frames} frames; {planned.guidance}")
for step in planned.steps[:3]:
    print(f"sigma {step.sigma:.4f} by the {step.expert} expert, CFG {step.guidance_scale}")
print(*planned.warnings, sep="\n")

try:
    plan(GenerateRequest(image=picture, num_frames=0))
except InvalidRequest as error:
    print(error.field, error.given, error.allowed)
