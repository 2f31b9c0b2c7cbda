"""What benchmarks that make clips with the package have in common. Imported by them.

Jobs and videos lie in a folder that goes when the measurement is over; the result goes to `--out`, and to stdout as the last
line.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with `--out`; `doc` is the benchmark's own docstring."""
    found = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--out", type=Path)
    return found


def report(args: argparse.Namespace, measure: Callable[[argparse.Namespace, Path], dict[str, Any]]) -> None:
    """Measure in a folder of its own, write and print."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        os.environ["WAN2_I2V_OUTPUT"] = folder
        summary = measure(args, Path(folder))
    if args.out:
        args.out.write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary))
