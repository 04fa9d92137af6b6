"""
Do the released layouts of S3D, VideoCLIP, its COIN head and VLM convert and load at full size, with random tensors?

    python benchmarks/full_size_conversions.py --tokenizer BERT_FOLDER [--only s3d vlm_pretrained]
        [--output benchmarks/results/full_size_conversions.json]

For each layout (`tests/conversion` holds its keys and shapes against those of the released files): write the file as
the authors' code would, convert it by the real command, which reads it back bit by bit, then load the folder with
`AutoModel` in two new processes, one with the package and one without it (`trust_remote_code`). Both must give the
same sha256 over all tensors, and the folder must hold a card. It needs 2 GB of disk and about a minute a layout. The
JSON has what the conversion counted, the sha256, and the seconds of the conversion and of both loads.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from s3d_encode import environment

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hf_videolang.models.s3d.configuration_s3d import S3DConfig
from tests.conversion.s3d.original_file import original_shapes
from tests.conversion.videoclip.original_files import FULL, layouts, random_values, write

REPOSITORY = Path(__file__).resolve().parents[1]
LAYOUTS = {"s3d": None, **layouts(FULL, video=6, text=12, labels=779)}
LOAD = """
import hashlib, sys
from transformers import AutoModel, AutoModelForTokenClassification
loader = AutoModelForTokenClassification if sys.argv[2] == "True" else AutoModel
model = loader.from_pretrained(sys.argv[1], trust_remote_code=True)
digest = hashlib.sha256()
for name, tensor in sorted(model.state_dict().items()):
    digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
print(type(model).__name__, type(model).__module__.split(".")[0], digest.hexdigest())
"""


def write_s3d(folder: Path) -> list[str | Path]:
    """The two files of S3D; the words of `convert`."""
    values = random_values(original_shapes(S3DConfig()), torch.float32)
    values |= {name: torch.tensor(1) for name in values if name.endswith("num_batches_tracked")}
    torch.save(values, folder / "s3d_howto100m.pth")
    np.save(folder / "s3d_dict.npy", np.array([f"word{number}" for number in range(66249)]))
    return [folder / "s3d_howto100m.pth", "--dictionary", folder / "s3d_dict.npy"]


def run(*words: str | Path, **options) -> str:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{REPOSITORY / 'src'}"}
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, env=environment, **options
    )
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def check(name: str, tokenizer: Path, folder: Path) -> dict[str, Any]:
    head = "coin" in name
    if name == "s3d":
        words = write_s3d(folder)
    else:
        words = [write(random_values(LAYOUTS[name]), folder / "checkpoint_best.pt"), "--tokenizer", tokenizer]
    begin = time.perf_counter()
    converted = run("-m", "hf_videolang.cli", "convert", *words, "--output-dir", folder / "model")
    middle = time.perf_counter()
    (folder / "load.py").write_text(LOAD)
    load = [folder / "load.py", folder / "model", str(head)]
    (folder / "with.py").write_text(f"import hf_videolang\n{LOAD}")
    with_package = run(folder / "with.py", *load[1:]).split()
    os.environ["HF_MODULES_CACHE"] = str(folder / "modules")
    without = run("-I", REPOSITORY / "tests" / "common" / "without.py", "hf_videolang", *load).split()
    assert with_package[0] == without[0] and with_package[2] == without[2], (with_package, without)
    assert (with_package[1], without[1]) == ("hf_videolang", "transformers_modules")
    assert (folder / "model" / "README.md").stat().st_size > 2000
    times = {"convert": middle - begin, "load_twice": time.perf_counter() - middle}
    print(converted.replace(f"{folder}/", "").strip())
    seconds = ", ".join(f"{key} {value:.0f} s" for key, value in times.items())
    print(f"{name}: {with_package[0]} with and without the package, sha256 {without[2][:16]}, {seconds}", flush=True)
    counts = json.loads((folder / "model" / "conversion_report.json").read_text())["counts"]
    return {"class": without[0], "sha256": without[2], "counts": counts, "seconds": times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with the tokenizer of bert-base-uncased")
    parser.add_argument("--only", nargs="+", choices=LAYOUTS, default=[*LAYOUTS])
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks/results/full_size_conversions.json")
    args = parser.parse_args()
    report: dict[str, Any] = {"environment": environment(), "layouts": {}}
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            report["layouts"][name] = check(name, args.tokenizer.resolve(), Path(folder))
    args.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
