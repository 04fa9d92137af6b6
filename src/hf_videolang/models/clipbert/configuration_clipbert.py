"""Configuration of ClipBERT (arXiv 2102.06183): a ResNet over single frames and a BERT over text and grid cells."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

from hf_videolang.models.shared.remote_code import RemoteCodeMixin
from hf_videolang.models.shared.sub_configs import check_heads


@strict
class ClipBertConfig(RemoteCodeMixin, PreTrainedConfig):
    """
    ClipBERT with any of its heads (clipbert §1 to §4). Defaults are those of the released checkpoint.

    Args:
        vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, hidden_act,
        hidden_dropout_prob, attention_probs_dropout_prob, max_position_embeddings, type_vocab_size,
        initializer_range, layer_norm_eps, pad_token_id: as of BERT base, uncased.
        max_grid_rows, max_grid_columns (`int`, default to 100): rows of the two position tables of the visual tokens.
            A token is a square of 64 pixels, so the largest picture has 6,400 pixels a side.
        stem_channels, bottleneck_channels, res2_channels (`int`, default to 64, 64, 256): widths of the ResNet.
            Bottlenecks and outputs double from stage to stage.
        depths (`list[int]`, defaults to `[3, 4, 6, 3]`): blocks of the stages res2 to res5.
        stride_in_1x1 (`bool`, defaults to `True`): whether a stage shrinks its input in the first 1x1 convolution, as
            in the released CNN. `False` takes the 3x3 convolution, as ResNets trained on ImageNet do.
        channel_order (`str`, defaults to `"BGR"`): order in which the CNN reads the channels. Inputs always are RGB.
        num_frozen_stages (`int`, defaults to 2): stages of the CNN that do not train: the stem, then res2 to res5.
        temporal_fusion (`str`, defaults to `"mean"`): how the frames of a clip become one grid. `"conv3d"` and
            `"conv2plus1d"` are our reading of the paper's ablation (clipbert A16), which the authors did not release.
        score_aggregation (`str`, defaults to `"mean"`): how the logits of the clips become one, in training and at
            test: `"mean"`, `"max"` or `"logsumexp"`. Published fine-tuning uses `"logsumexp"` for several clips.
        retrieval_loss (`str`, defaults to `"cross_entropy"`): of `ClipBertForVideoTextRetrieval`. `"cross_entropy"`
            has two labels, of which 1 is a match; `"ranking"` has one score.
        margin (`float`, defaults to 0.2): of the ranking loss.
        pixel_random_sampling_size (`int`, defaults to 0): visual tokens that are kept in training, at random; 0 keeps
            all. Pre-training keeps 100; a new head of another task starts with 0.
        num_labels, id2label, problem_type: of transformers. A head that answers questions has one label an answer.
            `problem_type` decides its loss: `"single_label_classification"` (the default), with soft targets
            `"multi_label_classification"`, or `"regression"` for counts.

    Raises:
        StrictDataclassError: a value has the wrong type or does not fit the others.

    ```python
    model = ClipBertForVisualQuestionAnswering(ClipBertConfig(num_labels=1500, score_aggregation="logsumexp"))
    ```
    """

    model_type = "clipbert"
    auto_map = {
        "AutoConfig": "configuration_clipbert.ClipBertConfig",
        "AutoModel": "modeling_clipbert.ClipBertModel",
        "AutoModelForPreTraining": "modeling_clipbert.ClipBertForPreTraining",
        "AutoModelForVisualQuestionAnswering": "modeling_clipbert.ClipBertForVisualQuestionAnswering",
        "AutoModelForMultipleChoice": "modeling_clipbert.ClipBertForMultipleChoice",
        "AutoVideoProcessor": "video_processing_clipbert.ClipBertVideoProcessor",
        "AutoProcessor": "processing_clipbert.ClipBertProcessor",
    }
    is_decoder = add_cross_attention = False  # BERT's layers ask for these

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float | int = 0.02
    layer_norm_eps: float | int = 1e-12
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True
    max_grid_rows: int = 100
    max_grid_columns: int = 100
    stem_channels: int = 64
    bottleneck_channels: int = 64
    res2_channels: int = 256
    depths: list[int] | tuple[int, ...] = (3, 4, 6, 3)
    stride_in_1x1: bool = True
    channel_order: Literal["BGR", "RGB"] = "BGR"
    num_frozen_stages: int = 2
    temporal_fusion: Literal["mean", "conv3d", "conv2plus1d"] = "mean"
    score_aggregation: Literal["mean", "max", "logsumexp"] = "mean"
    retrieval_loss: Literal["cross_entropy", "ranking"] = "cross_entropy"
    margin: float | int = 0.2
    pixel_random_sampling_size: int = 0

    def __post_init__(self, **kwargs):
        self.depths = list(self.depths)  # as JSON gives it back
        super().__post_init__(**kwargs)

    def validate_architecture(self):
        check_heads(self.hidden_size, self.num_attention_heads)
        if self.retrieval_loss == "ranking" and self.score_aggregation == "logsumexp":
            raise ValueError(
                "score_aggregation='logsumexp' does not fit retrieval_loss='ranking', whose scores are no "
                "log-probabilities; take 'mean' or 'max', or retrieval_loss='cross_entropy'."
            )


__all__ = ["ClipBertConfig"]
