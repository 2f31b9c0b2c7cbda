"""The command `wan2-i2v`: one small module per command. Importing it, and `--help`, load no torch."""

from wan2_i2v.doors.cli.app import main

__all__ = ["main"]
