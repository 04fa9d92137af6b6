"""The video stream of a file: its facts, and the pictures of its frames in one pass."""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from typing import Any

import numpy as np

from .decoded_video import Cut, UnconfirmedIndexError, VideoDecodingError, VideoInfo, from_facts, to_facts
from .frame_times import Packet, frame_times, indexed_ticks, shown_ticks
from .h264 import is_reference
from .kept_index import LONG, keep_index, read_index
from .limits import FORMATS, MAX_PACKETS, MAX_PIXELS, SUBFILE

# A packet is one shown picture in MP4 and its relatives, and with these codecs elsewhere. Other packets may be hidden
# pictures (VP8), fields (interlaced video) or several pictures (MPEG-4): only the decoder can count them.
PICTURE_A_PACKET = {"h264", "hevc", "vp9", "av1", "gif"}
FRAMES_A_REPORT = 64


class VideoStream:
    """The video stream of a file, ready to decode: FFmpeg's best one, never a cover picture.

    A frame's number is its place in the order in which the decoder shows the frames, from the first that decodes on.

    An index made from the packets gives count and times without decoding. With it the decoder seeks, and leaves out
    pictures that nobody wants. This shortcut is taken only where codec and container time every picture, and only as
    long as the decoder confirms it: one picture a packet, in the order of the time stamps, none damaged. Otherwise
    all frames are decoded once to count them, and then read from the start of the file. The index of a long file is
    kept on disk for its next segment.

    Args:
        path: a local file.
        name: the source as text, for errors.
        num_threads: threads over the slices of a picture, 0 for one per core. Never over pictures (FFmpeg's frame
            threads): after an error in a damaged file such a decoder may wait for ever.
        count: count the frames by decoding them, because the decoder did not confirm the index.
        report: called now and then while frames are counted.

    Attributes:
        info: facts about the stream.
        whole: count and times of all frames.

    Raises:
        VideoDecodingError: the file has no readable video stream.
    """

    info: VideoInfo
    whole: Cut

    def __init__(
        self,
        path: str,
        name: str,
        num_threads: int = 1,
        count: bool = False,
        report: Callable[[], object] = lambda: None,
    ):
        self._av = import_av()
        self.name = name
        self._path, self._num_threads, self._report = path, num_threads, report
        self._container: Any = None
        self._layout: tuple | None = None
        self._size: Sequence[int] = ()
        self._next = 0  # number of the frame that the decoder shows next
        self._reached: float | None = None  # seconds of the last frame that it showed
        self._is_damaged = False  # the last frame, or one that it is predicted from
        self._index: Any = ()  # ticks of all frames, ascending; empty: frames are counted
        self._keys: Any = ()  # numbers of the key frames in the index
        self._wanted: set[int] | None = None  # pictures with other numbers may be left out; None: decode all
        self._left_out: set[int] = set()
        self._may_leave_out = False
        self._failures = (self._av.FFmpegError, OSError, ValueError, RuntimeError)
        with self._named_failures():
            try:
                self._read_facts(count)
            except BaseException:
                self.close()
                raise

    def pictures(self, numbers: Sequence[int], size: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
        """Upright RGB pictures, uint8 `[height, width, 3]`, of ascending, distinct frame numbers. Call it once.

        Of the other frames, only those are decoded that wanted ones are predicted from, and none is converted. The
        decoder seeks only where a key frame lies between its position and the next wanted frame.

        Args:
            numbers: of the frames.
            size: width and height to which FFmpeg's bicubic `scale` filter brings the pictures.

        Raises:
            VideoDecodingError: a wanted frame does not decode; those before it have been handed out.
            UnconfirmedIndexError: the decoder contradicts the index; open the file again with `count`.
        """
        if self._may_leave_out and len(numbers) < self.info.num_frames:
            self._wanted = set(numbers)
        self._size = size or ()
        find = self._indexed_frame if len(self._index) else self._counted_frame
        with self._named_failures():
            for number in numbers:
                yield self._picture(find(number))

    def close(self) -> None:
        """Free decoder and file."""
        self._frames: Iterator[Any] = iter(())  # a suspended decoding loop keeps the container alive
        if self._container is not None:
            self._container.close()

    def _open(self) -> None:
        """Open the file, afresh if it was open, since not every format can be rewound."""
        self.close()
        pixels = {"max_pixels": str(MAX_PIXELS)}
        protocols = "file,subfile" if self._path.startswith(SUBFILE) else "file"
        allowed = {"protocol_whitelist": protocols, "format_whitelist": FORMATS}
        try:
            self._container = self._av.open(self._path, metadata_errors="ignore", options={**allowed, **pixels})
        except self._av.ArgumentError as error:
            reason = "it is a list of other files, such as a playlist, or in a format that is not read as video"
            raise VideoDecodingError(self.name, reason) from error
        cover = self._av.stream.Disposition.attached_pic
        videos = [stream for stream in self._container.streams.video if not stream.disposition & cover]
        if not videos:
            raise VideoDecodingError(self.name, "it has no video stream")
        best = self._container.streams.best("video")
        self._stream = best if best in videos else videos[0]
        if self._stream.codec_context is None:
            raise VideoDecodingError(self.name, "FFmpeg has no decoder for its video stream")
        width, height = self._stream.codec_context.width, self._stream.codec_context.height
        if width * height > MAX_PIXELS:
            reason = f"its pictures have {width}x{height} pixels; HF_VIDEOLANG_MAX_PIXELS allows {MAX_PIXELS:,}"
            raise VideoDecodingError(self.name, reason)
        if self._stream.frames > MAX_PACKETS:
            reason = f"it declares {self._stream.frames:,} frames; at most {MAX_PACKETS:,} are read"
            raise VideoDecodingError(self.name, reason)
        self._stream.codec_context.options = pixels  # the stream itself may state another size
        for stream in self._container.streams:
            if stream is not self._stream:  # damaged sound must not end the pictures
                stream.discard = self._av.stream.Discard.all
        self._stream.codec_context.thread_type = "NONE" if self._num_threads == 1 else "SLICE"
        self._stream.codec_context.thread_count = self._num_threads
        self._frames = self._decode()

    def _decode(self) -> Iterator[Any]:
        """Frames in the order in which they are shown, from the current position to the end of the file."""
        decoder = self._stream.codec_context
        for packet in self._container.demux(self._stream):
            if not packet.size and packet.dts is not None:
                continue  # "show the last picture again"; the empty packet that ends the stream has no time
            if self._wanted is not None:
                number = self._number(packet.pts)
                decoder.skip_frame = "DEFAULT"
                if number >= 0 and number not in self._wanted and not is_reference(packet):
                    decoder.skip_frame = "NONREF"
                    self._left_out.add(number)
            yield from packet.decode()

    def _read_facts(self, count: bool) -> None:
        is_temporary = self._path not in (self.name, os.path.abspath(self.name))  # a download, which is read once
        may_be_kept = not count and not is_temporary
        if kept := may_be_kept and read_index(self._path):
            facts, self._index, self._keys = kept
            self.info, self.whole = from_facts(facts, self._index)
            self._ticks: Any = self._index
            self._may_leave_out = facts["may_leave_out"]
            self._open()
            return
        packets = self._read_packets()
        coded = [packet for packet in packets if packet.size]
        if not coded:
            raise VideoDecodingError(self.name, "its video stream has no frames")
        self._is_leading = not coded[0].is_key
        self._open()
        frame = next(self._frames, None)
        if frame is None:
            raise VideoDecodingError(self.name, f"none of its {len(coded)} frames decodes")
        self._frames = chain([frame], self._frames)

        codec, is_progressive = self._stream.codec_context.codec.canonical_name, not frame.interlaced_frame
        is_indexable = "mp4" in self._container.format.name or (codec in PICTURE_A_PACKET and is_progressive)
        index = indexed_ticks(coded) if is_indexable else []
        # No player shows the frames before the first that decodes: what they are predicted from is not in the file.
        index = index[index.index(frame.pts) :] if frame.pts in index else []
        if index and not count:
            self._index = np.array(index, np.int64)
            keys = (self._number(packet.pts) for packet in coded if packet.is_key)
            self._keys = np.array(sorted(key for key in keys if key >= 0), np.int64)
            # If every picture is shown in the order of the file, B pictures are absent, or their order was lost.
            self._may_leave_out = codec == "h264" and is_progressive and coded != sorted(coded)
        else:
            index = self._count(index, coded)
            self._reached = None
            self._open()
        stream = self._stream
        self.whole = frame_times(index, packets, stream.time_base, stream.average_rate, stream.duration)
        self._ticks = self.whole.ticks
        self._seconds: Any = self.whole.seconds
        self.info = self._info(frame, codec)
        if may_be_kept and len(self._index) >= LONG:
            facts = {**to_facts(self.info, self.whole), "may_leave_out": self._may_leave_out}
            keep_index(self._path, facts, self._index, self._keys)

    def _number(self, tick: int | None) -> int:
        """Of the frame with these ticks in the index; -1 if there is none."""
        place = -1 if tick is None else bisect_left(self._index, tick)
        return place if place < len(self._index) and self._index[place] == tick else -1

    def _read_packets(self) -> list[Packet]:
        self._open()
        self._is_timed = self._container.format.name != "avi"  # in AVI, FFmpeg guesses when a picture is shown
        return [
            Packet(self._stamp(packet), packet.dts, packet.duration or 0, packet.is_keyframe, packet.size)
            for packet in self._container.demux(self._stream)
            if not packet.is_discard  # outside the file's edit list
        ]

    def _stamp(self, packet_or_frame: Any) -> int | None:
        return packet_or_frame.pts if self._is_timed else None

    def _count(self, index: list[int], coded: list[Packet]) -> list[int]:
        """Ascending ticks of all frames that the decoder shows; of those in `index`, if it proves right."""
        shown: list[int | None] = []
        is_complete = True
        try:
            for frame in self._frames:
                shown.append(self._stamp(frame))
                self._reached = frame.time
                if len(shown) % FRAMES_A_REPORT == 0:
                    self._report()
        except self._failures:
            is_complete = False
        if shown == index[: len(shown)]:  # right as far as the frames decode
            return index
        if len(shown) < len(index):
            raise VideoDecodingError(self.name, f"only {len(shown)} of its {len(index)} frames decode", self._reached)
        if not is_complete:  # the packets behind the damage promise frames; asking for those is an error
            shown += [None] * max(1, len(coded) - len(shown))
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        return shown_ticks(shown, coded, 1 / (rate * self._stream.time_base))

    def _info(self, frame: Any, codec: str) -> VideoInfo:
        rotation = round(frame.rotation / 90) % 4 * 90
        sideways = rotation in (90, 270)
        if self._stream.duration is not None:
            declared = float(self._stream.duration * self._stream.time_base)
        else:  # Matroska states one duration for all streams
            declared = self._container.duration and self._container.duration / self._av.time_base
        return VideoInfo(
            num_frames=self.whole.num_frames,
            frames_per_second=None if self.whole.frame_rate is None else float(self.whole.frame_rate),
            duration=self.whole.duration,
            width=frame.height if sideways else frame.width,
            height=frame.width if sideways else frame.height,
            rotation=rotation,
            codec=codec,
            stream_index=self._stream.index,
            declared_duration=declared,
        )

    def _indexed_frame(self, number: int) -> Any:
        """The frame of that number, if all that is shown up to it is what the index says."""
        keys_before = bisect_right(self._keys, number)
        try:
            if keys_before and self._keys[keys_before - 1] > self._next:
                self._jump(int(self._keys[keys_before - 1]))
            for frame in self._frames:
                found = self._number(frame.pts)
                is_next = found >= self._next and self._left_out.issuperset(range(self._next, found))
                if not is_next or frame.is_corrupt:
                    break
                self._next = found + 1
                if found == number:
                    return frame
        except self._failures as error:
            raise UnconfirmedIndexError from error
        raise UnconfirmedIndexError

    def _jump(self, key: int) -> None:
        """Continue at a key frame, or at the start of the file if decoding cannot begin there."""
        self._container.seek(int(self._ticks[key]), stream=self._stream)
        self._frames, self._next = self._decode(), key
        for frame in self._frames:
            found = self._number(frame.pts)
            if found == key:
                self._frames = chain([frame], self._frames)
                return
            if not 0 <= found < key:  # pictures that follow an open group's key frame in the file are shown before it
                break
        self._open()  # the format cannot seek so well, or the picture refreshes gradually
        self._keys, self._next = (), 0

    def _counted_frame(self, number: int) -> Any:
        """The frame of that number, read on from the last one."""
        while self._next <= number:
            frame = next(self._frames, None)
            if frame is None:
                reason = f"frame {number} of {self.whole.num_frames} does not decode"
                raise VideoDecodingError(self.name, reason, self._reached)
            # All frames from a damaged one to the next key frame are predicted from damage. Only at the start of a
            # recording that begins inside a group, damage is normal.
            self._is_leading = self._is_leading and frame.is_corrupt
            goes_on = self._is_damaged and not frame.key_frame
            self._is_damaged = not self._is_leading and (frame.is_corrupt or goes_on)
            if not self._is_damaged:
                self._reached = float(self._seconds[self._next])
            self._next += 1
        if self._is_damaged:
            raise VideoDecodingError(self.name, f"frame {number} of {self.whole.num_frames} is damaged", self._reached)
        return frame

    def _picture(self, frame: Any) -> np.ndarray:
        sideways = self.info.rotation in (90, 270)
        width, height = (frame.height, frame.width) if sideways else (frame.width, frame.height)
        if (width, height) != (self.info.width, self.info.height):
            reason = f"its picture changes from {self.info.width}x{self.info.height} to {width}x{height}"
            raise VideoDecodingError(self.name, reason, self._reached)
        layout = (frame.width, frame.height, frame.format.name)
        if layout != self._layout:
            self._graph, self._layout = self._rgb_graph(frame, self._size[::-1] if sideways else self._size), layout
        self._graph.vpush(frame)
        return np.rot90(self._graph.vpull().to_ndarray(), self.info.rotation // 90)

    def _rgb_graph(self, frame: Any, size: Sequence[int]) -> Any:
        """FFmpeg's own conversion to RGB, in one step with the resize to width and height, if there is one.

        `VideoFrame.to_ndarray` takes colour samples to lie elsewhere, which shows in 10-bit, interlaced and odd-sized
        pictures.
        """
        graph = self._av.filter.Graph()
        graph.threads = 1
        shape = {"width": frame.width, "height": frame.height}
        nodes = [graph.add_buffer(**shape, format=frame.format, time_base=frame.time_base)]
        if size:
            nodes.append(graph.add("scale", f"{size[0]}:{size[1]}"))
        nodes += [graph.add("format", "pix_fmts=rgb24"), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        return graph

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        try:
            yield
        except VideoDecodingError:
            raise
        except self._failures as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise VideoDecodingError(self.name, reason, self._reached) from error


def import_av() -> Any:
    """PyAV, or an error with the remedy."""
    try:  # transformers asks for packages that remote code imports outside of `try`, even in functions
        import av
    except ImportError as error:
        raise ImportError("decoding video needs `pip install av`, which brings FFmpeg.") from error
    return av
