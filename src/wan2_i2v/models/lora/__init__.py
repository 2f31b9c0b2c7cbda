"""LoRA files on an expert: `apply_loras(module, specs)` → `AppliedLoras`, which reports and can be taken off again.

Comes in: a `WanTransformer3DModel` (its weights may be on the meta device or packed) and files with strengths. Base
weights are never changed. Imported by stages and the residency runtime.
"""

from wan2_i2v.models.lora.apply import AppliedLoras, apply_loras
from wan2_i2v.models.lora.reading import LoraReport, LoraSpec

__all__ = ["AppliedLoras", "LoraReport", "LoraSpec", "apply_loras"]
