"""Decoding with torchcodec, which uses the system's FFmpeg."""

import base64
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from .video_sources import lacks_presentation_times, local_file
from .video_stream import VideoStream


class TorchCodecStream(VideoStream):
    """
    Args:
        path: a local file.
        name: the source as text, for errors.
        num_threads: FFmpeg threads of the decoder.

    Raises:
        VideoDecodingError: no readable video stream.
    """

    failures = (RuntimeError, ValueError, OSError)

    def __init__(self, path: str, name: str, num_threads: int = 1):
        self._decoders = _import_decoders()
        self.name = name
        self._path, self._num_threads = path, num_threads
        with self._named_failures():
            self._converter = self._decoders.ColorConverter(device="cpu")
            self._open()
            index, facts = self._stream.scan(), self._stream.metadata
            untimed = lacks_presentation_times(path)
            frame = self._set_index(
                index.pts_seconds.tolist(),
                index.is_key_frame.tolist(),
                float(index.duration_seconds[-1]) if len(index) else 0.0,
                facts.average_fps_from_header or 25.0 if untimed else None,
            )
            self.info = self._facts(frame, facts.codec, self._stream.index)

    def _open(self) -> None:
        self._demuxer = self._decoders.Demuxer(self._path)
        self._stream = self._demuxer.streams[0]
        self._decoder = self._stream.make_decoder(device="cpu", num_ffmpeg_threads=self._num_threads)

    def _decode(self) -> Iterator[tuple[float, Any]]:
        for packet in self._demuxer:
            for frame in self._decoder.decode(packet):
                yield frame.pts_seconds, frame
        for frame in self._decoder.drain():
            yield frame.pts_seconds, frame

    def _seek(self, seconds: float) -> None:
        self._demuxer.seek(seconds)
        self._decoder.reset()

    def _picture(self, frame: Any) -> np.ndarray:
        return self._converter.convert(frame).data.permute(1, 2, 0).numpy()

    def close(self) -> None:
        self._frames = iter(())
        self._demuxer = self._stream = self._decoder = None


def _import_decoders() -> Any:
    try:  # transformers asks for packages that remote code imports outside of `try`, even in functions
        import torchcodec.decoders
    except ImportError as error:
        raise ImportError(f"decoding with torchcodec needs `pip install 'torchcodec>=0.17'`: {error}") from error
    if not hasattr(torchcodec.decoders, "Demuxer"):
        raise ImportError(f"torchcodec {torchcodec.__version__} is too old; `pip install 'torchcodec>=0.17'`.")
    return torchcodec.decoders


@cache
def torchcodec_problem() -> str | None:
    """Why torchcodec cannot decode here, or None if it can.

    Without a system FFmpeg its imports succeed and only a decoder fails, so this decodes one small frame.
    """
    try:
        with local_file(zlib.decompress(base64.b85decode(_ONE_GREY_FRAME)), None) as (path, name):
            stream = TorchCodecStream(path, name)
            next(stream.pictures([0]))
            stream.close()
    except (ImportError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


# H.264 in MP4, 16x16 pixels, compressed
_ONE_GREY_FRAME = (
    "c-nnZF;4<96n+Pi5G9d;C<8HP!m1I1CMKE?b-2M*7g-M4lM5|(xt0qU2NNCq3A#DDx;Zkq@e3T?jDG@O%aJ<}dFku-+V}OnzP<v0"
    ">Bxca3XcP%Kp|??4qFxO*D3&zbplEeH#xB-;u?K?$lN}?fO&O?M}D~Hg}BXl*d{O|>2IwDs1b`X%bH);VX35W9Lm7%pxuxioiqJ6"
    "n##RA&%(U<NCC=}NP$?QOvv~|6jz@$-Z*h>G)zwBYp-j)_|S`;Hetck6S{;ZnU}csEW1k>RUD(i-L8X1A>=w}@|tBb@s&tGokSVA"
    "Uck(WZIpy;GPK`?6ePiURXzRZDOAyUun?^&BX^E`lex`)^`N$>5ykNs=Urr-8Yjcm@fU1dBYtiT&s0ZN)RaB4o=pQX?a}>6-7oLk"
    "!jJMREi`2?ecXPeMIrUWL(J2y!Ma3ic0Z1TzMIIm9`Cih1b+|pxJRUF*gmHkm24-QgAEOA-)G4}vo8LCUw6%D-2"
)
