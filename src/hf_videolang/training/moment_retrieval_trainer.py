"""Fine-tuning for moment retrieval: queries against videos of all processes, and spans within the own video."""

import torch
import torch.distributed as dist
from accelerate.utils import extract_model_from_parallel
from torch import Tensor
from torch.nn.functional import pad

from hf_videolang.losses import gather_features
from hf_videolang.training.moment_retrieval_arguments import MomentRetrievalTrainingArguments
from hf_videolang.training.trainer import VideoTrainer


class MomentRetrievalTrainer(VideoTrainer):
    """
    A [`VideoTrainer`] for a model that finds moments. Its ranking losses see the batches of all processes, with the
    exact gradient: N processes equal one process with the N-fold batch.

    The original scaled the gradient of the ranking losses by one over the number of processes (hero A14); recipes
    divide its published weights by the published number of GPUs.

    Arguments are those of [`VideoTrainer`]. Query i of a batch belongs to video i.
    """

    args: MomentRetrievalTrainingArguments
    compares_samples = True
    loss_is_scaled_for_ga = False  # the losses are means over the batch

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        args, step = self.args, self.state.global_step
        inputs = self._pad(inputs)
        spans = inputs.pop("start_positions"), inputs.pop("end_positions")
        plain = extract_model_from_parallel(model)
        is_hard = args.hard_negatives_from_step is not None and step >= args.hard_negatives_from_step
        plain.config.hard_pool_size = args.hard_pool_size if is_hard else 0
        output = model(**inputs)
        scores = plain.video_scores(
            *map(gather_features, (output.text_embeds, output.frame_embeds, output.video_attention_mask))
        )
        own = torch.arange(len(scores), device=scores.device)
        has_spans = 0 <= args.span_loss_from_step <= step
        losses = plain.losses(scores, own, output.start_logits, output.end_logits, spans, has_spans)
        loss = torch.stack(losses).sum()
        return (loss, output) if return_outputs else loss

    def _pad(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Videos as long as the longest of all processes, since padding acts on the last two frames (hero §3)."""
        length = torch.tensor(inputs["video_features"].shape[1], device=inputs["video_features"].device)
        if dist.is_initialized():
            dist.all_reduce(length, op=dist.ReduceOp.MAX)
        missing = int(length) - inputs["video_features"].shape[1]
        padded = {"video_features": 0, "video_attention_mask": 0, "frame_subtitles": -1}
        return {
            **inputs,
            **{
                name: pad(inputs[name], (0, 0) * (inputs[name].ndim - 2) + (0, missing), value=value)
                for name, value in padded.items()
            },
        }
