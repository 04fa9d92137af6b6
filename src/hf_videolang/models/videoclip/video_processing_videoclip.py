"""Videos to the pixels of the S3D inside VideoCLIP."""

from hf_videolang.models.s3d.video_processing_s3d import S3DVideoProcessor


class VideoCLIPVideoProcessor(S3DVideoProcessor):
    """
    `S3DVideoProcessor` that reads the first 32 seconds of a video, as many as VideoCLIP was trained with.

    ```python
    processor = VideoCLIPVideoProcessor.from_pretrained("org/videoclip")
    pixels = processor("lesson.mp4", return_tensors="pt")["pixel_values_videos"]
    ```
    """

    auto_map = {"AutoVideoProcessor": "video_processing_videoclip.VideoCLIPVideoProcessor"}
    max_clips = 32


__all__ = ["VideoCLIPVideoProcessor"]
