"""Every kind of input gives the same pixels, those of a slow twin that decodes and resizes in plain NumPy."""

import http.server
import io
import threading
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import AutoVideoProcessor
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling, SizeDict
from transformers.video_utils import VideoMetadata

import hf_videolang  # noqa: F401  registers with the Auto classes
from hf_videolang.data.moving_shapes import write_video
from hf_videolang.models.clip_vip.video_processing_clip_vip import CLIPViPVideoProcessor
from hf_videolang.models.shared import any_video
from hf_videolang.models.shared import separable_resize as resizing
from hf_videolang.video import Cut, video_inputs
from hf_videolang.video.decoded_video import VideoDecodingError

SIZE, TOTAL, RATE = 16, 20, 10
SAMPLED = [0, 6, 12, 19]  # floor of linspace(0, 19, 4)
MEAN, STD = np.array(OPENAI_CLIP_MEAN), np.array(OPENAI_CLIP_STD)


@pytest.fixture(scope="module")
def frames():
    """20 frames of 40 x 56, none like another: `[T, H, W, 3]`."""
    coarse = np.random.default_rng(0).integers(0, 256, (TOTAL, 5, 7, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture(scope="module")
def video(frames, tmp_path_factory):
    """A file with these frames, as far as a codec keeps them."""
    pytest.importorskip("av")
    return write_video(tmp_path_factory.mktemp("videos") / "noise.mp4", list(frames), RATE)


@pytest.fixture(scope="module")
def decoded(video):
    """What is in the file, decoded without the package."""
    with open_container(video) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def open_container(source):
    import av

    return av.open(str(source) if isinstance(source, Path) else source)


@pytest.fixture
def processor():
    return CLIPViPVideoProcessor(size={"height": SIZE, "width": SIZE}, num_frames=4)


def pixels_of(processor, videos, **kwargs):
    return processor(videos, return_tensors="pt", **kwargs)["pixel_values_videos"]


def cubic(distance):
    """Keys' kernel with a = -0.75, that of torch."""
    x = abs(distance)
    if x <= 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * x**3 + 3.75 * x**2 - 6 * x + 3 if x < 2 else 0.0


def resize_matrix(size):
    """`[SIZE, size]`: each output position weighs the 4 input positions around it, without antialiasing."""
    matrix = np.zeros((SIZE, size))
    for row in range(SIZE):
        centre = (row + 0.5) * size / SIZE - 0.5
        for tap in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            matrix[row, min(max(tap, 0), size - 1)] += cubic(centre - tap)
    return matrix


def slow_pixels(frames):
    """`[T, H, W, 3]` uint8 to what the model sees."""
    height, width = resize_matrix(frames.shape[1]), resize_matrix(frames.shape[2])
    resized = np.einsum("ah,thwc,bw->tcab", height, frames / 255, width)
    return torch.from_numpy((resized - MEAN[:, None, None]) / STD[:, None, None]).float()


def assert_same(pixels, frames, indices=SAMPLED):
    torch.testing.assert_close(pixels, slow_pixels(frames[indices])[None], rtol=0, atol=2e-5)


SOURCES = {
    "str": str,
    "Path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "dictionary with a path": lambda path: {"path": str(path), "bytes": None},
    "dictionary with bytes": lambda path: {"path": None, "bytes": path.read_bytes()},
    "list": lambda path: [str(path)],
    "nested list": lambda path: [[str(path)]],
    "PyAV container": open_container,
    "PyAV container over bytes": lambda path: open_container(io.BytesIO(path.read_bytes())),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_sources(processor, video, decoded, kind):
    assert_same(pixels_of(processor, SOURCES[kind](video)), decoded)


def test_container_stays_where_it_is(processor, video, decoded):
    for source in (video, io.BytesIO(video.read_bytes())):
        with open_container(source) as container:
            decoding = container.decode(video=0)
            first = next(decoding).to_ndarray(format="rgb24")
            pixels_of(processor, container)
            rest = [frame.to_ndarray(format="rgb24") for frame in decoding]
        np.testing.assert_array_equal(np.stack([first, *rest]), decoded)


def test_torchcodec_decoder(processor, video, decoded):
    decoders = pytest.importorskip("torchcodec.decoders")
    for order in ("NCHW", "NHWC"):
        try:
            decoder = decoders.VideoDecoder(str(video), dimension_order=order)
        except RuntimeError as error:
            pytest.skip(f"torchcodec does not load here: {str(error).splitlines()[0]}")
        assert_same(pixels_of(processor, decoder), decoded)


def test_url(processor, video, decoded):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(video.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert_same(pixels_of(processor, f"http://127.0.0.1:{server.server_port}/{video.name}"), decoded)
    finally:
        server.shutdown()
        server.server_close()


IN_MEMORY = {
    "array THWC": lambda frames: frames,
    "array TCHW": lambda frames: frames.transpose(0, 3, 1, 2),
    "tensor THWC": torch.from_numpy,
    "tensor TCHW": lambda frames: torch.from_numpy(frames).permute(0, 3, 1, 2),
    "batch of one": lambda frames: frames[None],
    "list of PIL": lambda frames: [PIL.Image.fromarray(frame) for frame in frames],
    "list of HWC arrays": list,
    "tuple of CHW tensors": lambda frames: tuple(torch.from_numpy(frames).permute(0, 3, 1, 2)),
    "negative strides": lambda frames: np.ascontiguousarray(frames[:, ::-1])[:, ::-1],
    "int64": lambda frames: frames.astype(np.int64),
    "float in 0..1": lambda frames: torch.from_numpy(frames).float() / 255,
    "double in 0..1": lambda frames: frames / 255,
}


@pytest.mark.parametrize("kind", IN_MEMORY)
def test_frames_in_memory(processor, frames, kind):
    assert_same(pixels_of(processor, IN_MEMORY[kind](frames)), frames)


def test_the_frames_of_one_clip_at_a_time_are_in_memory(processor, video, decoded, monkeypatch):
    alive = weakref.WeakSet()

    def counting(*arguments):
        frames, metadata = read_frames(*arguments)
        assert not alive, "the frames of the clip before are still held"
        alive.add(frames)
        return frames, metadata

    read_frames = any_video.read_frames
    monkeypatch.setattr(any_video, "read_frames", counting)
    result = processor([str(video)] * 3, return_tensors="pt", return_metadata=True)
    assert len(result["video_metadata"]) == 3
    for pixels in result["pixel_values_videos"]:
        assert_same(pixels[None], decoded)


def test_inputs_are_left_alone(processor, frames):
    for given in (torch.from_numpy(frames.copy()), torch.from_numpy(frames).float() / 255):
        before = given.clone()
        pixels_of(processor, given)
        pixels_of(processor, given, do_resize=False, do_sample_frames=False)
        assert torch.equal(given, before)


def test_a_mixed_batch(processor, video, decoded):
    batch = [str(video), decoded, [PIL.Image.fromarray(frame) for frame in decoded], {"path": str(video)}]
    result = processor(batch, return_tensors="pt")
    assert result["pixel_values_videos"].shape == (4, 4, 3, SIZE, SIZE)
    assert "video_attention_mask" not in result
    for pixels in result["pixel_values_videos"]:
        assert_same(pixels[None], decoded)


def test_different_lengths_are_padded_and_masked(processor, frames):
    result = processor([frames[:5], frames[:2]], do_sample_frames=False, return_tensors="pt")
    pixels = result["pixel_values_videos"]
    assert_same(pixels[:1], frames, slice(5))
    assert_same(pixels[1:, :2], frames, slice(2))
    assert (pixels[1, 2:] == 0).all()
    assert result["video_attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    equal = processor([frames[:3], frames[3:6]], do_sample_frames=False, return_tensors="np")
    assert set(equal) == {"pixel_values_videos"}
    assert isinstance(equal["pixel_values_videos"], np.ndarray)


def test_grey_and_transparent_frames(processor, frames):
    grey = frames[..., :1].repeat(3, axis=-1)
    alpha = np.concatenate([frames, np.full_like(frames[..., :1], 7)], axis=-1)
    for given in (frames[..., :1], list(frames[..., 0]), [PIL.Image.fromarray(f[..., 0]) for f in frames]):
        assert_same(pixels_of(processor, given), grey)
    for given in (alpha, alpha.transpose(0, 3, 1, 2), [PIL.Image.fromarray(frame) for frame in alpha]):
        assert_same(pixels_of(processor, given), frames)


def test_antialiasing_is_an_option(processor, frames):
    antialiased = pixels_of(processor, frames, antialias=True)
    clip = torch.from_numpy(frames[SAMPLED]).permute(0, 3, 1, 2).float() / 255
    resized = torch.nn.functional.interpolate(clip, (SIZE, SIZE), mode="bicubic", antialias=True)
    expected = (resized - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(antialiased[0], expected.float(), rtol=0, atol=2e-5)
    assert (antialiased - pixels_of(processor, frames)).abs().max() > 0.1


def test_overshoot_is_not_clipped(processor):
    edge = np.zeros((4, 12, 12, 3), np.uint8)
    edge[:, :, 6:] = 255
    pixels = pixels_of(processor, edge, do_normalize=False)
    assert pixels.min() < -0.01 and pixels.max() > 1.01


def test_do_rescale_false_takes_values_as_they_are(processor, frames):
    normal = torch.randn(4, 3, SIZE, SIZE)
    pixels = pixels_of(processor, normal, do_rescale=False, do_normalize=False, do_resize=False)
    assert torch.equal(pixels[0], normal)


def test_shortest_edge_and_crop(processor, frames):
    options = {
        "size": {"shortest_edge": 20},
        "crop_size": {"height": 12, "width": 14},
        "do_center_crop": True,
    }
    pixels = pixels_of(processor, frames, **options)
    assert pixels.shape == (1, 4, 3, 12, 14)
    clip = torch.from_numpy(frames[SAMPLED]).permute(0, 3, 1, 2).float() / 255
    resized = torch.nn.functional.interpolate(clip, (20, 28), mode="bicubic")[:, :, 4:16, 7:21]
    expected = (resized - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(pixels[0], expected.float(), rtol=0, atol=2e-5)


SAMPLING = [
    ({}, SAMPLED),
    ({"num_frames": 6}, [0, 3, 7, 11, 15, 19]),
    ({"num_frames": 30}, [int(i * 19 / 29) for i in range(30)]),
    ({"fps": 2.5}, [0, 4, 9, 14, 19]),  # 2 s of video
    ({"fps": 0.1}, [0]),
    ({"do_sample_frames": False}, list(range(TOTAL))),
]


@pytest.mark.parametrize(("options", "indices"), SAMPLING)
def test_sampling_of_a_file(processor, video, decoded, options, indices):
    assert_same(pixels_of(processor, str(video), **options), decoded, indices)


@pytest.mark.parametrize(("options", "indices"), SAMPLING)
def test_sampling_of_frames_in_memory(processor, frames, options, indices):
    known = {"video_metadata": {"fps": RATE}} if "fps" in options else {}
    assert_same(pixels_of(processor, frames, **options, **known), frames, indices)


def test_only_the_sampled_frames_are_decoded(processor, video, monkeypatch):
    asked = []

    def recording(source, select, **kwargs):
        asked.append(list(select(Cut(TOTAL))))
        return decode_video(source, select, **kwargs)

    decode_video = video_inputs.decode_video
    monkeypatch.setattr(video_inputs, "decode_video", recording)
    pixels_of(processor, [str(video), video])
    assert asked == [SAMPLED, SAMPLED]


def test_a_picture_of_a_few_pixels_has_no_doubtful_layout(processor, tmp_path):
    pytest.importorskip("av")
    narrow = np.random.default_rng(1).integers(0, 256, (4, 6, 4, 3), dtype=np.uint8)
    video = write_video(tmp_path / "narrow.mp4", list(narrow))
    with open_container(video) as container:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert_same(pixels_of(processor, video), decoded, range(4))
    assert_same(pixels_of(processor, decoded[:, :4], input_data_format="channels_last"), decoded[:, :4], range(4))


def test_segment_in_seconds(processor, video, decoded):
    segment = {"path": str(video), "start": 0.5, "end": 1.2}  # frames 5 to 11
    assert_same(pixels_of(processor, segment), decoded, [5, 7, 9, 11])
    assert_same(pixels_of(processor, {"path": str(video), "start": None, "end": None}), decoded)


def test_jitter_is_a_seed_of_the_call(processor, frames):
    batch = [frames] * 6
    jittered = pixels_of(processor, batch, seed=5)
    assert torch.equal(jittered, pixels_of(processor, batch, seed=5))
    assert not torch.equal(jittered, pixels_of(processor, batch, seed=6))
    assert len({clip.numpy().tobytes() for clip in jittered}) > 1  # each video of the call anew
    expected = np.random.RandomState(5)
    for clip in jittered:  # the original's draws: step int(20 / 3) = 6
        first, last = expected.randint(0, 7), expected.randint(13, 20)
        assert_same(clip[None], frames, np.linspace(first, last, 4).astype(int))


def test_a_single_frame_is_not_jittered(processor, video, decoded):
    """Neither the only frame that is asked for, nor the only one at a low rate."""
    for options in ({"num_frames": 1}, {"fps": 0.5}):
        assert_same(pixels_of(processor, str(video), seed=5, **options), decoded, [0])
        single = CLIPViPVideoProcessor(**options)
        np.testing.assert_array_equal(single.read_clip(str(video), seed=5).permute(0, 2, 3, 1), decoded[:1])


def test_metadata_on_request(processor, video, decoded):
    options = {"return_tensors": "pt", "return_metadata": True}
    (metadata,) = processor(str(video), **options)["video_metadata"]
    assert (metadata.total_num_frames, metadata.width, metadata.height) == (TOTAL, 56, 40)
    assert list(metadata.frames_indices) == SAMPLED
    assert metadata.timestamps == [0.0, 0.6, 1.2, 1.9]
    # frames that were taken at 5 a second from a file of 10 a second: sampling goes on in their own terms
    known = VideoMetadata(total_num_frames=TOTAL, fps=RATE, frames_indices=list(range(0, TOTAL, 2)))
    result = processor(decoded[::2], fps=2.5, video_metadata=known, **options)
    nested = processor([[decoded[::2]]], fps=2.5, video_metadata=[[dict(known)]], **options)
    assert torch.equal(nested["pixel_values_videos"], result["pixel_values_videos"])
    assert list(result["video_metadata"][0].frames_indices) == [0, 4, 8, 12, 18]
    assert_same(result["pixel_values_videos"], decoded, [0, 4, 8, 12, 18])


def test_every_option_is_saved(tmp_path, frames):
    options = {
        "size": {"height": 24, "width": 20},
        "num_frames": 5,
        "antialias": True,
        "image_mean": (0.5, 0.4, 0.3),
        "image_std": (0.2, 0.3, 0.4),
    }
    CLIPViPVideoProcessor(**options).save_pretrained(tmp_path)
    loaded = AutoVideoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is CLIPViPVideoProcessor
    for name, value in options.items():
        assert (dict(loaded.size) if name == "size" else getattr(loaded, name)) == value
    assert torch.equal(pixels_of(loaded, frames), pixels_of(CLIPViPVideoProcessor(**options), frames))
    assert AutoVideoProcessor.from_pretrained(tmp_path, num_frames=7).num_frames == 7


def test_defaults_are_those_of_the_published_configurations():
    processor = CLIPViPVideoProcessor()
    assert (processor.num_frames, processor.antialias) == (12, False)
    assert dict(processor.size) == {"height": 224, "width": 224}
    assert pixels_of(processor, np.zeros((2, 8, 9, 3), np.uint8)).shape == (1, 12, 3, 224, 224)


def bad_inputs():
    uint8 = np.zeros((4, 8, 8, 3), np.uint8)
    return {
        "nothing": (None, TypeError, "NoneType is no video"),
        "empty list": ([], ValueError, "empty list"),
        "empty inner list": ([[]], ValueError, "empty list"),
        "number": ([3], TypeError, "int is no video"),
        "one picture": (PIL.Image.new("RGB", (8, 8)), TypeError, "Image is no video; .* as `images`"),
        "one array picture": (uint8[0], TypeError, r"shape \(8, 8, 3\) is no video"),
        "no frames": (uint8[:0], ValueError, "the video has 0 frames"),
        "no channels": (np.zeros((4, 8, 8, 5), np.uint8), ValueError, "no dimension of 1, 3 or 4 channels"),
        "which channels": (np.zeros((4, 3, 8, 3), np.uint8), ValueError, "input_data_format"),
        "sizes in a video": ([uint8[0], uint8[0, :6]], RuntimeError, "each tensor to be equal size"),
        "floats in 0..255": (np.full((4, 8, 8, 3), 9.0), ValueError, "from 9 to 9; expected"),
        "not a number": (np.full((4, 8, 8, 3), np.nan), ValueError, "expected 0..255 for integers"),
        "negative integers": (np.full((4, 8, 8, 3), -1), ValueError, "from -1 to -1"),
        "dictionary": ({"file": "a.mp4"}, ValueError, "neither 'path' nor 'bytes'"),
    }


@pytest.mark.parametrize("kind", bad_inputs())
def test_bad_inputs_are_named(processor, kind):
    given, error, message = bad_inputs()[kind]
    with pytest.raises(error, match=message):
        pixels_of(processor, given)


def test_no_frames_to_keep(processor):
    with pytest.raises(ValueError, match=r"the video has 0 frames \(shape \(0, 8, 8, 3\)\)"):
        pixels_of(processor, np.zeros((0, 8, 8, 3), np.uint8), do_sample_frames=False)


def test_what_does_not_decode_is_named(processor, tmp_path):
    pytest.importorskip("av")
    text = tmp_path / "notes.mp4"
    text.write_text("these are notes")
    for given in (text, tmp_path / "no_such_file.mp4"):
        with pytest.raises(VideoDecodingError, match=given.name) as caught:
            pixels_of(processor, [str(given)])
        assert caught.value.path == str(given)
    with pytest.raises(VideoDecodingError):
        pixels_of(processor, text.read_bytes())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fps": 2}, ValueError, "needs the frame rate of the video"),
        ({"video_metadata": [{"total_num_frames": 20}] * 2}, ValueError, "2 entries of video_metadata for 1 videos"),
        ({"num_frames": 0}, ValueError, "num_frames is 0"),
        ({"num_frames": "4"}, Exception, "num_frames"),
        ({"seed": True}, Exception, "seed"),
        ({"no_such_option": 1}, TypeError, "no_such_option"),
    ],
)
def test_bad_options_are_named(processor, frames, options, error, message):
    with pytest.raises(error, match=message):
        pixels_of(processor, frames, **options)


def test_sizes_that_do_not_fit_one_batch(processor, frames):
    with pytest.raises(ValueError, match=r"\(30, 56\), \(40, 56\).* do not fit one batch"):
        pixels_of(processor, [frames, frames[:, :30]], do_resize=False)


def test_resize_takes_what_it_takes_in_transformers(processor):
    size, options = SizeDict(height=5, width=7), {"resample": PILImageResampling.BICUBIC, "antialias": False}
    pictures = torch.rand(2, 3, 16, 12, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(pictures, (5, 7), mode="bicubic")
    torch.testing.assert_close(processor.resize(pictures, size, **options), expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(processor.resize(pictures[0], size, **options), expected[0], rtol=0, atol=2e-6)
    double = processor.resize(pictures[0].double(), size, **options)
    torch.testing.assert_close(double, expected[0].double(), rtol=0, atol=2e-6)
    assert processor.resize((255 * pictures[0]).byte(), size, **options).dtype == torch.uint8


def test_the_default_dtype_does_not_matter(processor):
    frames = torch.randint(0, 256, (2, 3, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = processor([frames], num_frames=2, return_tensors="pt")["pixel_values_videos"]
    resizing._weights.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        pixels = processor([frames], num_frames=2, return_tensors="pt")["pixel_values_videos"]
    finally:
        torch.set_default_dtype(torch.float32)
    assert pixels.dtype == torch.float32 and torch.equal(pixels, expected)
