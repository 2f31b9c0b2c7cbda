"""Names of the ways to store a weight that can be read: safetensors' and GGML's own. A leaf of constants, no torch."""

FLOAT_TYPES = ("F64", "F32", "F16", "BF16")
FP8_TYPES = ("F8_E4M3", "F8_E5M2")
GGML_TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
PACKED_TYPES = FP8_TYPES + GGML_TYPES
"""What must be converted before it can be multiplied."""

SUPPORTED = FLOAT_TYPES + PACKED_TYPES
