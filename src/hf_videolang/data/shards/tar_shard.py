"""A WebDataset tar shard with random access, through an index of its members."""

import json
import os
import re
import tarfile
from collections import Counter
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_videolang.atomic_files import atomic_file
from hf_videolang.data.annotation_text import parse_json
from hf_videolang.data.records import name_some
from hf_videolang.data.video_files import VIDEO_EXTENSIONS
from hf_videolang.video import VideoDecodingError
from hf_videolang.video.sources import FilePart

if TYPE_CHECKING:
    from pyarrow import Table

FORMAT = 1  # of the index
KINDS = {"key": "string", "fields": "string", "offsets": "int64", "sizes": "int64"}  # of the values of an index
ROWS_READ = 500  # of the index at once, in 1 ms. Fewer would not be faster: each group of rows adds to its footer.
# Kinds of headers whose content tarfile reads as a whole to interpret it, and the bytes that we allow for it.
INTERPRETED = (*tarfile.GNU_TYPES, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
INTERPRETED_LIMIT = 1 << 13
LARGE = 1 << 23  # bytes of a video that a record of a local tar leaves there
NEAR = 1 << 16  # bytes between two members that are read at once


class TarShard:
    """
    Undecoded records of one tar in the WebDataset layout. Reading a record reads only the bytes of its sample. A video
    of a local tar that has more than 8 MB stays there: its `bytes` are a [`FilePart`], which the decoder reads.

    A sample consists of consecutive members with the same key, the name up to the first dot after the last slash:
    `<key>.<video extension>` and perhaps `<key>.json`, an object whose keys become fields, `<key>.txt`, which becomes
    the field "txt", and others such as `<key>.jpg`, which become fields `{"path", "bytes"}` named by their extension.
    A member may be a hard link to an earlier one, whose bytes it then has.

    The index is `.<name>.tar.index.parquet` beside the tar, or below `HF_HOME` if the folder is read-only. It is made
    from the headers alone, when it is first needed or when the tar has changed. A remote tar is read once for it,
    unless an index was uploaded with the tar, which is then copied. A process keeps nothing of an index in memory,
    however many shards it reads: for each record it reads the few hundred rows around it.

    Args:
        path: a local path, or a URL that fsspec knows ("hf://datasets/…/train-00000.tar", "s3://…").
        name: by default the file name without extension.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the tar is truncated or compressed, a key occurs twice, a sample has no video or several, or a
            member is a link to what the tar does not hold; while reading, the tar no longer fits its index.
        VideoDecodingError: the text of a sample cannot be parsed.
    """

    def __init__(self, path: str, name: str | None = None):
        self.path = path
        self.name = name or path.rpartition("/")[2].removesuffix(".tar")
        self._count: int | None = None
        self._index: tuple[str, str] | None = None

    def __repr__(self) -> str:
        return f"TarShard({self.path!r})"

    def __len__(self) -> int:
        if self._count is None:
            from pyarrow.parquet import read_metadata

            self._count = read_metadata(self._find_index()[0]).num_rows
        return self._count

    def __getitem__(self, row: int) -> dict[str, Any]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {self.path}, which has {len(self)}")
        key, *members = _read_row(self._find_index()[0], row).values()
        parts: dict[str, Any] = {}
        near: list[tuple[str, int, int]] = []  # members that are read at once
        for field, offset, size in zip(*members):
            follows = near and 0 <= offset - sum(near[-1][1:]) <= NEAR  # unlike a linked one
            if near and not (follows and max(size, near[-1][2]) <= LARGE):
                parts |= self._read(key, near)
                near = []
            near.append((field, offset, size))
        parts |= self._read(key, near)
        record: dict[str, Any] = {"video": None, "video_id": key}
        try:
            if reserved := {"video", "video_id"} & parts.keys():
                raise ValueError(f"a member is called {key}.{reserved.pop()}, which is no extension")
            if "json" in parts:
                record |= _read_json(parts.pop("json"))
            if "txt" in parts:
                record["txt"] = parts.pop("txt").decode("utf-8")
        except (ValueError, RecursionError) as error:
            raise VideoDecodingError(f"{self.path}/{key}", f"its text cannot be read: {error}") from error
        for field, part in parts.items():
            column = "video" if is_video(field) else field
            record[column] = {"path": f"{self.path}/{key}.{field}", "bytes": part}
        return record

    def _read(self, key: str, members: list[tuple[str, int, int]]) -> dict[str, Any]:
        """The content of members (field, offset, size) that follow each other; a large one comes alone."""
        field, first, size = members[0]
        begin, end = first - tarfile.BLOCKSIZE, sum(members[-1][1:])  # from the first member's header on
        if not 0 <= begin <= end <= json.loads(self._find_index()[1])["size"]:
            raise ValueError(f"{self.path}: {key} lies outside; remove the index {self._find_index()[0]}.")
        stays = size > LARGE and is_video(field) and "://" not in self.path
        end = first if stays else end
        files, root = file_system(self.path)
        exactly = {"cache_type": "none"} if self.path.startswith("hf://") else {}  # or fsspec fetches 5 MB more
        content = memoryview(files.cat_file(root, start=begin, end=end, **exactly))
        if len(content) < end - begin or not _is_header(content[: tarfile.BLOCKSIZE], size):
            raise ValueError(
                f"{self.path}: {key} is not where the index says, so the tar was replaced. Start again. If that does "
                f"not help, remove the index {self._find_index()[0]}; it is then made again."
            )
        if stays:
            return {field: FilePart(self.path, first, size)}
        return {field: bytes(content[at - begin : at - begin + size]) for field, at, size in members}

    def keys(self) -> list[str]:
        """The key of each row, from the index alone."""
        from pyarrow.parquet import read_table

        return read_table(self._find_index()[0], columns=["key"])["key"].to_pylist()

    def _find_index(self) -> tuple[str, str]:
        if self._index is None:
            self._index = find_index(self.path)
        return self._index


def _read_json(content: bytes) -> dict[str, Any]:
    fields = parse_json(content.decode("utf-8-sig"))
    if not isinstance(fields, dict) or "video" in fields or not isinstance(fields.get("video_id", ""), str):
        raise ValueError(
            f'it is {str(fields)[:80]}; expected an object of fields such as {{"subtitle": "…"}}, without "video"; '
            '"video_id" must be a text'
        )
    return fields


def is_video(field: str) -> bool:
    return "." + field.rpartition(".")[2].lower() in VIDEO_EXTENSIONS


def find_index(path: str) -> tuple[str, str]:
    """The local path of an index that fits the tar, and the state of the tar. Makes or fetches the index if needed."""
    files, root = file_system(path)
    info = files.info(root)
    folder, _, name = path.rpartition("/")
    beside = f"{folder}/.{name}.index.parquet" if folder else f".{name}.index.parquet"
    cached = _cache_folder() / f"{sha256(path.encode()).hexdigest()[:32]}.parquet"
    is_local = "://" not in path
    stamp = {"format": FORMAT, "size": info["size"], "modified": str(info.get("mtime", ""))}
    fits = json.dumps(stamp)
    if _fits(str(cached), stamp):
        return str(cached), fits
    if is_local and _fits(beside, stamp):
        return beside, fits
    if not is_local and _fits(beside, {"format": FORMAT, "size": info["size"]}):
        from pyarrow.parquet import read_table

        with open_file(beside) as file:
            table = read_table(file)
    else:  # a local file is opened without fsspec, which would double the time for 20,000 headers
        with open(path, "rb") if is_local else files.open(root, "rb") as file:
            table = index_samples(file, path)
    if is_local:
        with suppress(OSError):  # a read-only folder, or a full disk
            _write_index(Path(beside), table, fits)
            return beside, fits
    cached.parent.mkdir(parents=True, exist_ok=True)
    _write_index(cached, table, fits)
    return str(cached), fits


def index_samples(file: Any, path: str) -> "Table":
    """Key, fields, offsets and sizes of each sample in an open tar. Errors as in `TarShard`."""
    from pyarrow import table

    keys: list[str] = []
    places: dict[str, tuple[int, int]] = {}
    columns: dict[str, list[list]] = {"fields": [], "offsets": [], "sizes": []}
    for member in _members(file, path):
        match = re.fullmatch(r"((?:.*/)?[^./]+)\.([^/]+)", member.name)
        if member.isdir() or match is None:
            continue
        place = places.get(member.linkname) if member.islnk() else (member.offset_data, member.size)
        if place is None or not (member.isfile() or member.islnk()) or member.issparse():
            raise ValueError(
                f"{path}: {member.name} is a sparse file, or a link to what the tar does not hold before. Pack the "
                "shard again with `tar --dereference --hard-dereference` or `hf-videolang data shard`."
            )
        places[member.name] = place
        key, field = match.group(1), match.group(2).lower()
        if not keys or key != keys[-1]:
            keys.append(key)
            for values in columns.values():
                values.append([])
        for values, value in zip(columns.values(), (field, *place)):
            values[-1].append(value)
    if not keys:
        raise ValueError(f"{path} holds no samples; expected members such as 000001.mp4 and 000001.json.")
    if twice := [key for key, count in Counter(keys).items() if count > 1]:
        raise ValueError(
            f"{path}: these keys occur twice: {name_some(twice)}. The members of a sample must follow each other and "
            "its key must be unique. Pack the shard again with `hf-videolang data shard`."
        )
    for key, fields in zip(keys, columns["fields"]):
        if len(videos := [field for field in fields if is_video(field)]) != 1 or len(set(fields)) < len(fields):
            found = f"{len(videos)} videos" if videos else "no video"
            raise ValueError(
                f"{path}: sample {key} has {found} among {key}.{{{', '.join(fields)}}}; expected exactly one "
                f"video ({', '.join(VIDEO_EXTENSIONS)}) and each extension once. The key ends at the first dot of a "
                "name. Pack the shard again with `hf-videolang data shard`."
            )
    return table({"key": keys, **columns})


class _LimitedTarInfo(tarfile.TarInfo):
    """Refuses headers that `tarfile` would read for ever, or with all memory: negative sizes, long extensions."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0 or (info.type in INTERPRETED and info.size > INTERPRETED_LIMIT):
            raise tarfile.ReadError(f"a header states {info.size} bytes")
        return info


def _members(file: Any, path: str) -> Any:
    """The headers of a whole tar. `tarfile` alone would take a damaged header for the end."""
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:", tarinfo=_LimitedTarInfo) as tar:
            while (member := tar.next()) is not None:
                if not 0 <= member.size <= size - member.offset_data:  # a PAX header may state another size
                    raise tarfile.ReadError(f"{member.name} states {member.size} bytes, more than the file has")
                member.name.encode()  # raises for what is not UTF-8, which an index cannot hold
                yield member
                tar.members.clear()  # type: ignore[attr-defined]  # or memory would grow with the tar
            end = tar.offset
    except OSError:
        raise
    except Exception as error:  # a forged header can fail in any way
        raise ValueError(
            f"{path} is not a readable tar: {error}. Download or pack it again. Unpack it if it is compressed: a "
            "compressed tar can only be read from its beginning."
        ) from error
    file.seek(end)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError(
            f"{path} is truncated or damaged: byte {end} is neither a header nor the end of the tar. "
            "Download or pack it again."
        )


def _is_header(block: memoryview, size: int) -> bool:
    """Whether these 512 bytes are the header of a member of that size (0: the size does not fit into the header)."""
    try:
        return tarfile.TarInfo.frombuf(bytes(block), "utf-8", "surrogateescape").size in (size, 0)
    except tarfile.TarError:
        return False


def _write_index(path: Path, table: "Table", stamp: str) -> None:
    from pyarrow.parquet import write_table

    with atomic_file(path) as temporary:
        table = table.replace_schema_metadata({"tar": stamp})
        write_table(table, temporary, compression="zstd", row_group_size=ROWS_READ)


def _fits(index: str, stamp: dict[str, Any]) -> bool:
    """Whether an index exists and was made from a tar in the state that `stamp` describes."""
    from pyarrow.parquet import read_schema

    try:
        with open_file(index) as file:
            schema = read_schema(file)
        kinds = {name: str(getattr(kind, "value_type", kind)) for name, kind in zip(schema.names, schema.types)}
        return kinds == KINDS and stamp.items() <= json.loads(schema.metadata[b"tar"]).items()
    except Exception:  # missing, damaged or forged
        return False


def _read_row(index: str, row: int) -> dict[str, Any]:
    """One row of an index."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(index) as file:
        group, place = divmod(row, file.metadata.row_group(0).num_rows)
        return file.read_row_group(group, use_threads=False).slice(place, 1).to_pylist()[0]


def file_system(path: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    return url_to_fs(path)  # fsspec caches the file systems


def open_file(path: str) -> Any:
    files, root = file_system(path)
    return files.open(root, "rb")


def _cache_folder() -> Path:
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME) / "hf_videolang" / "shard_indices"
