"""
Re-encode a folder of videos as the CLIP-ViP authors did, or by settings of your own.

  hf-videolang data prepare --data-dir /data/msrvtt --output-dir /data/msrvtt_6fps --preset msrvtt
  hf-videolang data prepare --data-dir videos --output-dir small --frames-per-second 6 --shortest-edge 224
  hf-videolang data prepare --data-dir videos --output-dir frames --num-frames 32 --size 288x180 --frames

Sub-folders stay, every video becomes <name>.mp4 (H.264, no sound) or, with --frames, a folder <name> of pictures
<name>_000.jpg, <name>_001.jpg, ... Annotation files are copied, with the new file names in metadata.*. The input is
never touched. preparation.jsonl in the output folder says what was done: settings and versions in its first line, then
one line a video. A run that was killed continues where it was when the same command is given again; a finished one
does nothing but try broken videos again. One run at a time may write to an output folder.
"""

import argparse
import csv
import io
import json
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hf_videolang.atomic_files import atomic_file, remove
from hf_videolang.data.records import name_some
from hf_videolang.data.tools.reencode import JPEG_QUALITY, FrameSettings, encoder, file_size, reencode_video
from hf_videolang.data.tools.worker_processes import WorkerProcesses
from hf_videolang.data.video_files import VIDEO_EXTENSIONS, is_video, list_files
from hf_videolang.data.video_folder import METADATA_NAMES

REPORT = "preparation.jsonl"
ANNOTATION_EXTENSIONS = (".csv", ".json", ".jsonl", ".md", ".parquet", ".srt", ".tsv", ".txt", ".vtt")


@dataclass(frozen=True)
class Preset:
    """Settings for one data set, what the authors have documented of them, and what is our choice."""

    settings: FrameSettings
    documented: str
    ours: str


ENCODING = "H.264 at x264's default quality and speed, resolution kept"
PRESETS = {
    "msrvtt": Preset(
        FrameSettings(frames_per_second=6.0),
        "MSR-VTT re-encoded at 6 frames a second (the maintainers)",
        ENCODING,
    ),
    "didemo": Preset(
        FrameSettings(num_frames=32),
        "DiDeMo re-encoded so that each video keeps 32 frames (the maintainers)",
        f"which 32: evenly in time from the first to the last; {ENCODING}",
    ),
    "activitynet": Preset(
        FrameSettings(frames_per_second=6.0, min_frames=20, size=(288, 180), frames=True),
        "ActivityNet decoded to low-resolution frames (the maintainers); 6 frames a second, at least 20, 288x180 "
        "bicubic (a sister project; the exact ActivityNet settings are not documented, and a public issue reports "
        "other numbers with another preparation)",
        f"bicubic with antialiasing, JPEG quality {JPEG_QUALITY}",
    ),
}


class PreparationError(RuntimeError):
    """The run cannot go on; what is finished stays."""


def prepare_folder(
    data_dir: str | Path,
    output_dir: str | Path,
    settings: FrameSettings,
    num_workers: int | None = None,
) -> list[dict[str, Any]]:
    """
    Re-encode every video below `data_dir` that is not finished yet.

    Args:
        data_dir: read only.
        output_dir: a new or empty folder outside `data_dir`, or that of an earlier run with the same settings.
        settings: which frames, and of what size.
        num_workers: processes, by default one a CPU; 0 works in this one.

    Returns:
        One row a video, as in the report: `file`, `output`, `frames_before`, `frames_after`, `bytes_before`,
        `bytes_after`, and `error` (None unless the video is broken).

    Raises:
        ValueError: `num_workers` is negative, the folders overlap, there is no video, two outputs would have one name,
            metadata cannot be read, or the output folder holds something else or other settings; names what differs.
        PreparationError: the disk is full or a worker was killed.
    """
    if num_workers is not None and num_workers < 0:
        raise ValueError(f"num_workers is {num_workers}; expected 0 (none) or more processes.")
    data_dir, output_dir = Path(data_dir).absolute(), Path(output_dir).absolute()
    inside, outside = data_dir.resolve(), output_dir.resolve()
    if inside.is_relative_to(outside) or outside.is_relative_to(inside):
        raise ValueError(f"{output_dir} and {data_dir} lie one in the other; take a folder of its own.")
    files = list_files(data_dir)
    videos = [file.relative_to(data_dir) for file in files if _is_video_file(file)]
    annotations = [file.relative_to(data_dir) for file in files if file.suffix.lower() in ANNOTATION_EXTENSIONS]
    outputs = _outputs(videos, settings.frames, annotations)
    if not outputs:
        raise ValueError(f"No videos in {data_dir}: expected files ending in {', '.join(VIDEO_EXTENSIONS)}.")
    facts = {"data_dir": str(data_dir), **asdict(settings), **_provenance(settings), **_documented(settings)}
    report = output_dir / REPORT
    rows = _earlier_rows(report, json.loads(json.dumps(facts)))
    rows = {
        file: row
        for file, row in rows.items()
        if not row["error"]
        and file in outputs
        and row["bytes_before"] == file_size(data_dir / file)
        and _is_there(output_dir / row["output"], row)
    }
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        written = [*map(Path, outputs.values()), *annotations]
        _remove_unfinished({output_dir, *((output_dir / file).parent for file in written)})
        _write_report(report, facts, rows)
        _copy_annotations(annotations, data_dir, output_dir, outputs, settings.frames)
        tasks = {
            file: (data_dir / file, output_dir / output, settings)
            for file, output in outputs.items()
            if file not in rows
        }
        with (
            tqdm(total=len(outputs), initial=len(rows), unit="video", desc="preparing", disable=None) as bar,
            open(report, "a", encoding="utf-8") as lines,
        ):
            for file, facts_of_file in _in_processes(tasks, num_workers):
                rows[file] = {"file": file, "output": outputs[file], **facts_of_file}
                lines.write(json.dumps(rows[file]) + "\n")
                lines.flush()
                bar.update()
        _write_report(report, facts, rows)
    except (OSError, BrokenProcessPool) as error:
        cause = "a worker process was killed (out of memory?)" if isinstance(error, BrokenProcessPool) else str(error)
        raise PreparationError(
            f"{cause}. {len(rows)} of {len(outputs)} videos are done and stay; see to it and give the same command again."
        ) from error
    return [rows[file] for file in sorted(rows)]


def _provenance(settings: FrameSettings) -> dict[str, Any]:
    """How outputs are written, with the versions that decide their bytes."""
    import av
    import PIL

    name, options = encoder()
    written = " ".join([name, *(f"{key}={value}" for key, value in options.items())])
    return {
        "written as": f"JPEG of quality {JPEG_QUALITY}" if settings.frames else written,
        "hf_videolang": version("hf_videolang"),
        "av": av.__version__,
        "ffmpeg": av.ffmpeg_version_info,
        "pillow": PIL.__version__,
    }


def _documented(settings: FrameSettings) -> dict[str, str]:
    for name, preset in PRESETS.items():
        if preset.settings == settings:
            return {"preset": name, "documented": preset.documented, "ours": preset.ours}
    return {"preset": "none", "documented": "nothing", "ours": "all settings"}


def _is_video_file(path: Path) -> bool:
    return is_video(path) and not path.is_dir()  # a folder of pictures has no times to choose by


def _outputs(videos: list[Path], frames: bool, annotations: list[Path]) -> dict[str, str]:
    """Where each video goes, both relative to their folders."""
    sources = defaultdict(list)
    for file in videos:
        sources[os.path.splitext(file.as_posix())[0] + ("" if frames else ".mp4")].append(file.as_posix())
    if collisions := [found for found in sources.values() if len(found) > 1]:
        examples = name_some([" and ".join(found) for found in collisions])
        raise ValueError(f"Several videos would become one output: {examples}. Rename all but one.")
    written = [*map(Path, sources), *annotations]
    parents = {parent.as_posix() for file in written for parent in file.parents}
    if both := sorted(parents & sources.keys()):
        raise ValueError(
            f"A video and a folder of other files would have one name: {name_some(both)}. Rename one of each."
        )
    return {found[0]: output for output, found in sources.items()}


def _earlier_rows(report: Path, facts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of an earlier run into this folder, by file."""
    if not report.is_file():
        if report.parent.is_dir() and (strangers := [file for file in report.parent.iterdir() if file.name[0] != "."]):
            raise ValueError(
                f"{report.parent} is not empty ({name_some([file.name for file in strangers])}) and holds no {REPORT} "
                "of an earlier run; take another folder."
            )
        return {}
    lines = report.read_text(encoding="utf-8").splitlines(keepends=True)
    try:
        there, *rows = [json.loads(line) for line in lines if line.endswith("\n")]  # a kill may cut off the last
    except ValueError as error:
        raise ValueError(f"{report} is damaged ({error}); take another folder, or remove this one.") from error
    if there != facts:
        differing = [
            f"{key}: {there.get(key)!r} there, {facts[key]!r} now"
            for key in facts
            if there.get(key) != facts[key] and key not in ("preset", "documented", "ours")
        ]
        raise ValueError(
            f"{report.parent} was prepared otherwise ({'; '.join(differing)}); take another folder, or remove this one."
        )
    return {row["file"]: row for row in rows}


def _write_report(report: Path, facts: dict[str, Any], rows: dict[str, dict[str, Any]]) -> None:
    lines = [facts, *(rows[file] for file in sorted(rows))]
    text = "".join(json.dumps(line) + "\n" for line in lines)  # ASCII: any name of a file
    if not report.is_file() or report.read_text(encoding="utf-8") != text:
        with atomic_file(report) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _is_there(target: Path, row: dict[str, Any]) -> bool:
    if target.is_dir():
        return len(os.listdir(target)) == row["frames_after"]
    return target.is_file() and target.stat().st_size == row["bytes_after"]


def _remove_unfinished(folders: Iterable[Path]) -> None:
    """What a killed run was at work on."""
    for left in [path for folder in folders for path in folder.glob(".*.part*")]:
        remove(left)


def _copy_annotations(
    files: list[Path], data_dir: Path, output_dir: Path, outputs: dict[str, str], frames: bool
) -> None:
    for file in files:
        content, target = (data_dir / file).read_bytes(), output_dir / file
        if file.name in METADATA_NAMES:
            names = {
                os.path.relpath(source, file.parent): os.path.relpath(output, file.parent)
                for source, output in outputs.items()
            }
            try:
                content = _with_new_names(content, file.suffix, names, data_dir / file.parent, frames)
            except (TypeError, ValueError, csv.Error) as error:
                raise ValueError(f"{data_dir / file}: {error}") from error
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(target) as temporary:
                temporary.write_bytes(content)


def _with_new_names(content: bytes, suffix: str, names: dict[str, str], folder: Path, frames: bool) -> bytes:
    """A metadata file whose `file_name` are the new ones; names of no video stay as they are."""

    def renamed(row: dict[str, Any]) -> dict[str, Any]:
        if None in row:
            raise ValueError(f"a row has more cells than the header: {row}")
        if frames and not {row.get("start"), row.get("end")} <= {None, ""}:
            raise ValueError(
                f"start or end is in seconds, which pictures do not know: {row}. Leave --frames out, or cut first."
            )
        name = row.get("file_name")
        if not isinstance(name, str):
            return row
        return {
            **row,
            "file_name": names.get(os.path.relpath(folder / name, folder), name),
        }  # it may be absolute

    if suffix == ".jsonl":
        lines = [line for line in content.decode("utf-8-sig").split("\n") if line.strip()]
        return "".join(
            json.dumps(renamed(dict(json.loads(line))), ensure_ascii=False) + "\n" for line in lines
        ).encode()
    if suffix == ".csv":
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, reader.fieldnames or [])
        writer.writeheader()
        writer.writerows(renamed(row) for row in reader)
        return text.getvalue().encode()
    from pyarrow import BufferOutputStream, Table, py_buffer
    from pyarrow.parquet import read_table, write_table

    table = read_table(py_buffer(content))
    output = BufferOutputStream()
    write_table(Table.from_pylist([renamed(row) for row in table.to_pylist()], schema=table.schema), output)
    return output.getvalue().to_pybytes()


def _in_processes(tasks: dict[str, tuple], num_workers: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file, facts) in the order in which they are done."""
    if num_workers == 0:
        yield from ((file, reencode_video(*task)) for file, task in tasks.items())
        return
    count = max(1, min(num_workers or os.cpu_count() or 1, len(tasks)))
    pool = WorkerProcesses(count)
    try:
        futures = {pool.submit(reencode_video, *task): file for file, task in tasks.items()}
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
    finally:
        pool.stop()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `hf-videolang data prepare`."""
    parser.add_argument("--data-dir", required=True, type=Path, help="folder with videos, never changed")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the prepared ones")
    which = parser.add_argument_group("which frames, and how large")
    which.add_argument(
        "--preset", choices=PRESETS, help="settings of a benchmark; options below win (LSMDC is used as distributed)"
    )
    times = which.add_mutually_exclusive_group()
    times.add_argument("--frames-per-second", type=float, help="frames on show at 0, 1/rate, 2/rate, ... s")
    times.add_argument("--num-frames", type=int, help="so many, evenly in time from the first to the last")
    which.add_argument("--min-frames", type=int, help="with a rate: at least so many of a short video")
    sizes = which.add_mutually_exclusive_group()
    sizes.add_argument("--size", type=_size, metavar="WIDTHxHEIGHT", help="bicubic, shape not kept")
    sizes.add_argument("--shortest-edge", type=int, help="bicubic, shape kept, never enlarged")
    which.add_argument("--frames", action="store_true", help="write folders of JPEG pictures, not .mp4 files")
    parser.add_argument("--num-workers", type=int, help="processes (default: one a CPU; 0: none)")


def _size(text: str) -> tuple[int, int]:
    if not (sides := re.fullmatch(r"(\d+)x(\d+)", text.lower())):
        raise argparse.ArgumentTypeError(f"{text!r} is no WIDTHxHEIGHT, such as 288x180")
    return int(sides[1]), int(sides[2])


def _settings(args: argparse.Namespace) -> FrameSettings:
    preset = asdict(PRESETS[args.preset].settings) if args.preset else {}
    if args.frames_per_second is not None:
        preset["num_frames"] = None
    if args.num_frames is not None:
        preset["frames_per_second"] = None
    if args.shortest_edge is not None:
        preset["size"] = None
    names = ("frames_per_second", "num_frames", "min_frames", "size", "shortest_edge")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    settings = FrameSettings(**{**preset, **given, "frames": args.frames or preset.get("frames", False)})
    if settings == FrameSettings():
        raise ValueError("say what to do: --preset, --frames-per-second, --num-frames, a size or --frames.")
    if args.min_frames is not None and settings.frames_per_second is None:
        raise ValueError("--min-frames goes with a rate; give --frames-per-second, too.")
    numbers = [*(settings.size or ()), settings.shortest_edge, settings.num_frames, settings.min_frames]
    if any(number is not None and number < 1 for number in numbers) or (
        settings.frames_per_second is not None and not 0 < settings.frames_per_second < float("inf")
    ):
        raise ValueError(f"{settings}: every number must be positive.")
    if not settings.frames and any(
        number and number % 2 for number in (*(settings.size or ()), settings.shortest_edge)
    ):
        raise ValueError("H.264 pictures have even sides: choose an even --size or --shortest-edge, or --frames.")
    return settings


def main(args: argparse.Namespace) -> int:
    """Prepare and tell what was done; 0: all, 1: broken videos or stopped on the way, 2: wrong usage."""
    try:
        settings = _settings(args)
        rows = prepare_folder(args.data_dir, args.output_dir, settings, args.num_workers)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except PreparationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(*(f"{key}: {value}" for key, value in _documented(settings).items()), sep="\n")
    print(_summary(rows, args.data_dir, args.output_dir))
    return 1 if any(row["error"] for row in rows) else 0


def _summary(rows: list[dict[str, Any]], data_dir: Path, output_dir: Path) -> str:
    done, broken = [row for row in rows if not row["error"]], [row for row in rows if row["error"]]

    def total(key: str) -> int:
        return sum(row[key] for row in done)

    others = Counter(
        "copied" if file.suffix.lower() in ANNOTATION_EXTENSIONS else "left behind"
        for file in list_files(data_dir)
        if not _is_video_file(file)
    )
    lines = [
        f"{len(done):,} of {len(rows):,} videos are prepared in {output_dir}",
        f"frames: {total('frames_before'):,} before, {total('frames_after'):,} after",
        f"megabytes: {total('bytes_before') / 1e6:,.1f} before, {total('bytes_after') / 1e6:,.1f} after",
        f"files that are no videos: {others['copied']} annotation files copied, {others['left behind']} left behind",
    ]
    if broken:
        lines.append(f"broken: {len(broken)} (all in {REPORT})")
        lines += [f"  {row['file']}: {row['error']}" for row in broken[:10]]
    return "\n".join(lines)
