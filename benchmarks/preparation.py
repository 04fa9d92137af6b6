"""What `hf-videolang data prepare` costs and saves: processor time, bytes, and the time to decode afterwards.

    python benchmarks/preparation.py --data-dir FOLDER [--rounds 3] [--output benchmarks/results/preparation.json]

First the videos of FOLDER are prepared one by one, as by `hf-videolang data prepare --frames-per-second 6
--shortest-edge 224`. Then twelve frames and the middle frame of each video are decoded and turned into the model's
input of 224x224 pixels, in turns from the original and the prepared files. All times are processor time of this
process and its decoding helper, so other work on the machine matters little. Finally the prepared videos are packed as
a tar shard of 1,000 records (each video several times) to measure the size of the shard and its index.
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median

import torch
from loader import processor_time
from video_decoding import environment

from hf_videolang.data.shards.write_shards import write_shards
from hf_videolang.data.tools.prepare import prepare_folder
from hf_videolang.models.clip_vip.video_processing_clip_vip import CLIPViPVideoProcessor
from hf_videolang.video import Cut, decode_video, probe_video, uniform_indices

NUM_FRAMES, RECORDS = 12, 1000


def model_input(path: Path, processor: CLIPViPVideoProcessor) -> torch.Tensor:
    """Twelve frames and the middle frame, `[13, 3, 224, 224]`."""

    def select(cut: Cut) -> list[int]:
        return [*uniform_indices(cut.num_frames, NUM_FRAMES).tolist(), cut.num_frames // 2]

    frames = decode_video(path, select).frames
    options = {"do_sample_frames": False, "input_data_format": "channels_first", "return_tensors": "pt"}
    return processor([frames], **options)["pixel_values_videos"][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of video files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", default="benchmarks/results/preparation.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    processor = CLIPViPVideoProcessor()
    report: dict = {"environment": environment()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        begin = processor_time()
        preparation = prepare_folder(args.data_dir, folder / "out", 6.0, 224, num_workers=1)
        report["prepare"] = {"processors": processor_time() - begin}
        done = [source for source in preparation.targets if source not in preparation.broken]
        files = {"original": done, "prepared": [preparation.targets[source] for source in done]}
        infos = {name: [probe_video(path) for path in paths] for name, paths in files.items()}
        report["videos"] = {
            "number": len(done),
            "seconds": sum(info.duration or 0 for info in infos["original"]),
            "median_width": median(info.width for info in infos["original"]),
            "median_height": median(info.height for info in infos["original"]),
            "frames_before": sum(info.num_frames for info in infos["original"]),
            "frames_after": sum(info.num_frames for info in infos["prepared"]),
            "bytes_before": sum(path.stat().st_size for path in files["original"]),
            "bytes_after": sum(path.stat().st_size for path in files["prepared"]),
        }
        report["decode"] = {name: {"processors": []} for name in files}
        for turn in range(-1, args.rounds):
            for name, paths in files.items():
                begin = processor_time()
                for path in paths:
                    model_input(path, processor)
                if turn >= 0:
                    report["decode"][name]["processors"].append(processor_time() - begin)
        chosen = [files["prepared"][number % len(done)] for number in range(RECORDS)]
        records = [
            {
                "video": {"path": str(path), "bytes": None},
                "video_id": f"abcdefghijk.{number}.mp4",
                "subtitle": "and now we add the onions to the pan and wait until they are golden brown",
            }
            for number, path in enumerate(chosen)
        ]
        shard = write_shards(records, folder / "shards", RECORDS).shards[0]
        index = next((folder / "shards").glob(".*.index.parquet"))
        report["shard"] = {
            "records": RECORDS,
            "video_bytes": sum(path.stat().st_size for path in chosen),
            "tar_bytes": Path(shard.path).stat().st_size,
            "index_bytes": index.stat().st_size,
        }
    number, decode = report["videos"]["number"], report["decode"]
    before, after = (median(decode[name]["processors"]) / number for name in ("original", "prepared"))
    print(f"{number} videos, {report['videos']['seconds'] / number:.1f} s each")
    print(f"preparing: {report['prepare']['processors'] / number:.2f} processor seconds a video")
    print(
        f"bytes a video: {report['videos']['bytes_before'] / number / 1e3:.0f} kB before, "
        f"{report['videos']['bytes_after'] / number / 1e3:.0f} kB after"
    )
    print(f"frames to the model's input: {before:.3f} s before, {after:.3f} s after: {before / after:.1f} x less")
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    Path(args.output).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
