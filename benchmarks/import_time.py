"""
What `import hf_videolang` costs on top of `import transformers, torch`: median over fresh interpreters, interleaved.

    python benchmarks/import_time.py [--runs 5]
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

BASELINE = "import torch, transformers"
PROGRAM = """
import time
start = time.perf_counter()
{}
print(time.perf_counter() - start)
"""


def seconds(statement: str) -> float:
    """Time of the statement in a fresh interpreter."""
    return float(
        subprocess.run(
            [sys.executable, "-c", PROGRAM.format(statement)], check=True, capture_output=True, text=True
        ).stdout
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    pairs = [(seconds(BASELINE), seconds(f"{BASELINE}; import hf_videolang")) for _ in range(runs)]
    base, both = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{'import torch, transformers':<40}{base:8.2f} s")
    print(f"{'import torch, transformers, hf_videolang':<40}{both:8.2f} s")
    print(f"on top: {both - base:.2f} s (target < 0.5 s), ratio {both / base:.2f}")
    result = {
        "seconds": [{"baseline": a, "with_hf_videolang": b} for a, b in pairs],
        "on_top_median": both - base,
        "environment": {
            "python": platform.python_version(),
            "machine": platform.machine(),
            **{name: version(name) for name in ("torch", "transformers", "hf_videolang")},
        },
    }
    path = Path(__file__).parent / "results" / "import_time.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"raw results: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    main()
