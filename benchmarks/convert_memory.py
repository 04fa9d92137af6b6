"""
Peak memory and time of conversions, on random checkpoints in the layouts of the released ones.

    python benchmarks/convert_memory.py

Each conversion runs in its own interpreter. Memory is the peak resident size (VmHWM; ru_maxrss would start at the size
of the parent process) minus the resident size after the imports, as a multiple of the file's size. Mapped pages of
files count. The limit is 2.5.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.conversion.clip_vip.random_checkpoints import B16, B32, LAYOUTS, Size, write_layout, write_tokenizer

REPOSITORY = Path(__file__).resolve().parents[1]
LIMIT = 2.5
CONVERT = """
import json, os, re, sys, time
from hf_videolang.conversion.families import convert, families
families()  # imports their modules
def memory(field):
    with open("/proc/self/status") as status:
        return int(re.search(rf"{field}:\\s+(\\d+) kB", status.read())[1]) * 1024
file, folder, tokenizer = sys.argv[1:]
before = memory("VmRSS")
start = time.perf_counter()
convert(file, folder, tokenizer=tokenizer)
seconds = time.perf_counter() - start
peak, size = memory("VmHWM") - before, os.path.getsize(file)
print(json.dumps({"bytes": size, "peak": peak, "multiple": peak / size, "seconds": seconds}))
"""


def measure(layout: str, size: Size) -> dict[str, float]:
    """Write a checkpoint in one of `LAYOUTS` and convert it in a new interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        file = write_layout(layout, size, Path(folder, layout))
        tokenizer = write_tokenizer(Path(folder, "tokenizer"), size.vocabulary)
        command = [sys.executable, "-c", CONVERT, str(file), str(Path(folder, "converted")), str(tokenizer)]
        output = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    results = []
    print(f"{'layout':<28}{'file':>9}{'peak':>9}{'multiple':>10}{'time':>9}")
    for layout in LAYOUTS:
        for name, size in {"B/16": B16, "B/32": B32}.items():
            result = measure(layout, size)
            results.append({"layout": layout, "size": name, **result})
            print(
                f"{layout:<23}{name:<5}{result['bytes'] / 2**20:6.0f} MB{result['peak'] / 2**20:6.0f} MB"
                f"{result['multiple']:9.2f}x{result['seconds']:7.1f} s",
                flush=True,
            )
    environment = {name: version(name) for name in ("torch", "transformers", "safetensors")}
    environment |= {"python": platform.python_version(), "machine": platform.machine()}
    path = REPOSITORY / "benchmarks" / "results" / "convert_memory.json"
    path.write_text(json.dumps({"limit": LIMIT, "results": results, "environment": environment}, indent=1) + "\n")
    return 0 if all(result["multiple"] <= LIMIT for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
