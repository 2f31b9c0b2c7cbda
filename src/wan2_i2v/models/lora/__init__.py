"""LoRA files on an expert: chosen and matched with a plan (`choosing`, `matching`: no torch), read and applied (`apply`).

Base weights are never changed, and may be on the meta device or packed. Imported by the API and by `components`.
"""
