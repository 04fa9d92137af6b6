"""Batches clips of pictures."""

from collections.abc import Callable, Iterable, Sequence

import torch


def batch_clips(
    clips: Iterable[Sequence[torch.Tensor]],
    limit: int,
    new_empty: Callable[[torch.Tensor, tuple[int, ...]], torch.Tensor] = torch.Tensor.new_empty,
    frames_per_step: int = 1,
) -> dict[str, torch.Tensor]:
    """
    Batch clips for a model. Each clip is copied as it arrives, so only one is in memory beside the batch.

    Args:
        clips: at least one, each of pictures `[channels, height, width]`, all of one size.
        limit: the number of clips or an upper bound of it.
        new_empty: allocates the batch, given a picture of its type and its shape.
        frames_per_step (defaults to 1): consecutive frames that share a value of the mask; clips have whole steps.

    Returns:
        `pixel_values_videos` `[clips, frames, channels, height, width]`, where shorter clips are padded with zeros.
        If the clips differ in length, or steps have several frames, also `video_attention_mask` `[clips, steps]`
        (1 = frames, 0 = padding).

    Raises:
        ValueError: the pictures differ in height or width.
    """
    batch, lengths = torch.empty(0), []
    for row, clip in enumerate(clips):
        if row == 0:
            batch = new_empty(clip[0], (limit, len(clip), *clip[0].shape))
        if len(clip) > batch.shape[1]:
            more = batch.new_zeros((limit, len(clip) - batch.shape[1], *batch.shape[2:]))
            batch = torch.cat([batch, more], dim=1)
        for number, picture in enumerate(clip):
            if picture.shape != batch.shape[2:]:
                raise ValueError(
                    f"videos of heights and widths {sorted({tuple(batch.shape[-2:]), tuple(picture.shape[-2:])})} "
                    "do not fit one batch; resize them (do_resize=True with size={'height': ..., 'width': ...}) or "
                    "process them one by one."
                )
            batch[row, number] = picture
        batch[row, len(clip) :] = 0
        lengths.append(len(clip))
    result = {"pixel_values_videos": batch[: len(lengths)]}
    if frames_per_step > 1 or len(set(lengths)) > 1:
        first_frames = torch.arange(0, batch.shape[1], frames_per_step)
        result["video_attention_mask"] = (first_frames < torch.tensor(lengths)[:, None]).long()
    return result
