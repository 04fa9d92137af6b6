"""Re-encode a folder of videos for training, and carry its metadata over."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hf_videolang.atomic_files import atomic_file
from hf_videolang.data.annotation_text import in_layout
from hf_videolang.data.records import name_some
from hf_videolang.data.stores.provenance import write_or_check_provenance
from hf_videolang.data.tools.reencode import ENCODER, OPTIONS, reencode_video
from hf_videolang.data.video_files import is_video, list_files
from hf_videolang.data.video_folder import METADATA_NAMES

PROVENANCE = "preparation.json"
COPIED = (".csv", ".json", ".jsonl", ".md", ".parquet", ".srt", ".tsv", ".txt", ".vtt")


@dataclass
class Preparation:
    """The new file of each video, how many this call encoded, and why the broken ones could not be."""

    targets: dict[Path, Path]
    num_written: int = 0
    broken: dict[Path, str] = field(default_factory=dict)

    def __str__(self) -> str:
        done = {source: target for source, target in self.targets.items() if source not in self.broken}
        before, after = (sum(map(os.path.getsize, files)) / 1e6 for files in (done.keys(), done.values()))
        summary = f"{len(done)} of {len(self.targets)} videos are prepared ({self.num_written} now)"
        sizes = f"{before:,.1f} MB before, {after:,.1f} MB after"
        return "\n".join([f"{summary}: {sizes}", *(f"broken: {reason}" for reason in self.broken.values())])


def prepare_folder(
    data_dir: str | Path,
    output_dir: str | Path,
    frames_per_second: float | None = None,
    shortest_edge: int | None = None,
    num_workers: int | None = None,
) -> Preparation:
    """
    Re-encode the videos in a folder that are new or have changed since the last call.

    Sub-folders are kept, and each video becomes `<name>.mp4`. Annotation files are copied; the names in metadata files
    become those of the new videos. Broken videos are reported, left out of metadata files, and tried again by the next
    call. A killed run continues with the next call. Only one run at a time may write to an output folder.

    Args:
        data_dir: the folder with the videos. It is only read.
        output_dir: a new folder outside `data_dir`, or that of an earlier run with the same settings.
        frames_per_second, shortest_edge (*optional*): see [`reencode_video`].
        num_workers (*optional*): videos to encode at once, by default one per CPU.

    Raises:
        ValueError: `output_dir` lies in `data_dir` or holds something else, two videos would get one name, or a
            metadata file cannot be read.

    Example:
        >>> print(prepare_folder("my_videos", "my_videos_small", frames_per_second=6, shortest_edge=224))
        240 of 240 videos are prepared (240 now): 987.4 MB before, 158.0 MB after
    """
    import av

    data_dir, output_dir = Path(data_dir).absolute(), Path(output_dir).absolute()
    if output_dir.resolve().is_relative_to(data_dir.resolve()):
        raise ValueError(f"{output_dir} lies in {data_dir}; choose a folder outside.")
    files = list_files(data_dir)
    videos = [file for file in files if is_video(file) and not file.is_dir()]
    targets = {video: Path(os.path.splitext(output_dir / video.relative_to(data_dir))[0] + ".mp4") for video in videos}
    if twice := [str(target) for target, count in Counter(targets.values()).items() if count > 1]:
        raise ValueError(f"Several videos would become {name_some(twice)}. Rename all but one of each.")
    settings: dict[str, Any] = {"frames_per_second": frames_per_second, "shortest_edge": shortest_edge}
    encoder = {"encoder": ENCODER, **OPTIONS, "ffmpeg": av.ffmpeg_version_info}
    content = [file.name for file in output_dir.glob("[!.]*")]
    write_or_check_provenance(output_dir / PROVENANCE, {"data_dir": str(data_dir), **settings, **encoder}, content)
    for leftover in output_dir.rglob(".*.part*"):  # from a killed run
        leftover.unlink()
    annotations = [file for file in files if file.suffix.lower() in COPIED and not file.is_dir()]
    for file in annotations:  # also before the work, to find one that cannot be read
        _copy_annotation(file, output_dir / file.relative_to(data_dir), targets)
    report = _encode(targets, partial(reencode_video, **settings), num_workers)
    if report.broken:
        for file in annotations:
            _copy_annotation(file, output_dir / file.relative_to(data_dir), targets, report.broken)
    return report


def _encode(targets: dict[Path, Path], encode: Callable[..., None], num_workers: int | None) -> Preparation:
    report = Preparation(targets)
    outdated = [source for source, target in targets.items() if not _is_current(source, target)]
    # Threads suffice: decoding takes place in helper processes, and the encoder does not hold Python's lock.
    pool = ThreadPoolExecutor(num_workers or os.cpu_count())
    try:
        with tqdm(total=len(targets), initial=len(targets) - len(outdated), unit="video", disable=None) as progress:
            futures = {pool.submit(encode, source, targets[source]): source for source in outdated}
            for future in as_completed(futures):
                source = futures[future]
                try:
                    future.result()
                    report.num_written += 1
                except (RuntimeError, ValueError) as error:  # mostly a VideoDecodingError
                    targets[source].unlink(missing_ok=True)  # from an earlier file of this name
                    report.broken[source] = f"{source}: {error}"
                progress.update()
    finally:
        pool.shutdown(cancel_futures=True)
    return report


def _is_current(source: Path, target: Path) -> bool:
    return source.exists() and target.exists() and target.stat().st_mtime >= source.stat().st_mtime


def _copy_annotation(
    file: Path, target: Path, targets: dict[Path, Path], left_out: Collection[Path] = frozenset()
) -> None:
    def new_name(name: str) -> str | None:
        """`None` for a video whose row is left out."""
        source = Path(os.path.normpath(file.parent / name))
        if source in left_out:
            return None
        return os.path.relpath(targets[source], target.parent) if source in targets else name

    content = file.read_bytes()
    if file.name in METADATA_NAMES:
        with in_layout(file, "a metadata file", "what `hf-videolang data check` takes"):
            content = _with_new_names(content, file.suffix, new_name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(target) as temporary:
        temporary.write_bytes(content)


def _with_new_names(content: bytes, suffix: str, new_name: Callable[[str], str | None]) -> bytes:
    """The content of a metadata file after a change of each `file_name`. A row whose new name is `None` goes."""

    def renamed(rows: Iterable[dict]) -> list[dict]:
        named = [row | {"file_name": new_name(row["file_name"])} for row in rows]
        return [row for row in named if row["file_name"] is not None]

    if suffix == ".jsonl":
        rows = [json.loads(line) for line in content.decode("utf-8-sig").split("\n") if line.strip()]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in renamed(rows)).encode()
    if suffix == ".csv":
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, reader.fieldnames or [])
        writer.writeheader()
        writer.writerows(renamed(reader))
        return text.getvalue().encode()
    from pyarrow import BufferOutputStream, Table, py_buffer
    from pyarrow.parquet import read_table, write_table

    table, output = read_table(py_buffer(content)), BufferOutputStream()
    write_table(Table.from_pylist(renamed(table.to_pylist()), schema=table.schema), output)
    return output.getvalue().to_pybytes()
