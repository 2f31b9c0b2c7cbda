"""The HTTP door: one small module per concern."""
