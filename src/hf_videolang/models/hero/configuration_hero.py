"""
Configuration of HERO (arXiv 2005.00200): a BERT over subtitles with their frames, and a BERT over time. With a
`text_config`, CLIP's text encoder reads all texts: CLIP-Enhanced (arXiv 2110.07137).
"""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import BertConfig, CLIPTextConfig
from transformers.configuration_utils import PreTrainedConfig

from hf_videolang.models.shared.remote_code import RemoteCodeMixin
from hf_videolang.models.shared.sub_configs import check_heads, own_config

# What a decoder has from the cross-modal BERT, unless it has a config of its own.
DECODER_FIELDS = (
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "layer_norm_eps",
)


@strict
class HeroCrossModalConfig(BertConfig):
    """
    The BERT over the text of a subtitle and its frames (hero §2.3). Fields are those of `BertConfig`; the vocabulary
    is RoBERTa's 50265 words, filled up to a multiple of 8.

    ```python
    config = HeroConfig(cross_modal_config=HeroCrossModalConfig(num_hidden_layers=2))
    ```
    """

    model_type = "hero_cross_modal"
    base_config_key = "cross_modal_config"

    vocab_size: int = 50272
    num_hidden_layers: int = 6
    max_position_embeddings: int = 514
    bos_token_id: int | None = 0
    pad_token_id: int | None = 1


@strict
class HeroTemporalConfig(BertConfig):
    """
    The BERT over the frames of a video (hero §2.5). Fields are those of `BertConfig`; it has no words.

    ```python
    config = HeroConfig(temporal_config=HeroTemporalConfig(num_hidden_layers=2))
    ```
    """

    model_type = "hero_temporal"
    base_config_key = "temporal_config"

    num_hidden_layers: int = 3
    max_position_embeddings: int = 514


@strict
class HeroQueryConfig(BertConfig):
    """
    The attention block that makes one vector of a query (hero §3). Of the fields of `BertConfig` it reads width,
    heads, positions, dropouts and `layer_norm_eps`.

    ```python
    config = HeroConfig(query_config=HeroQueryConfig(num_attention_heads=8))
    ```
    """

    model_type = "hero_query"
    base_config_key = "query_config"

    max_position_embeddings: int = 514


@strict
class HeroDecoderConfig(BertConfig):
    """
    The BERT that writes captions (hero §5). Fields are those of `BertConfig`; its words are the cross-modal BERT's.

    ```python
    config = HeroConfig(decoder_config=HeroDecoderConfig(num_hidden_layers=4))
    ```
    """

    model_type = "hero_decoder"
    base_config_key = "decoder_config"

    num_hidden_layers: int = 2
    max_position_embeddings: int = 1024
    is_decoder: bool = True
    add_cross_attention: bool = True
    bos_token_id: int | None = 0
    pad_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int = 0


@strict
class HeroConfig(RemoteCodeMixin, PreTrainedConfig):
    """
    HERO with any of its heads (hero §1 to §4). Defaults are those of the released model.

    Args:
        cross_modal_config (`HeroCrossModalConfig` or `dict`, *optional*): the BERT over subtitles and their frames.
        temporal_config (`HeroTemporalConfig` or `dict`, *optional*): the BERT over time.
        query_config (`HeroQueryConfig` or `dict`, *optional*): the query encoder of the retrieval head.
        decoder_config (`HeroDecoderConfig` or `dict`, *optional*): the BERT that writes captions. By default two
            layers of the size of the cross-modal BERT's.
        video_feature_size (`int`, defaults to 4352): width of a row of features; ResNet-152 with SlowFast.
        max_frames (`int`, defaults to 100): the most rows of a video.
        fusion (`str`, defaults to `"cross_modal"`): how subtitles meet their frames (hero §2.6). `"cross_modal"`: one
            BERT reads both. The others pool each subtitle to one vector: `"sum"` and `"concatenation"` join it with
            its frames, `"sequence"` puts all of them behind the frames. Padding acts on these vectors.
        channels (`str`, defaults to `"both"`): what of a video counts (hero §2.7). `"video"` ignores its subtitles.
            `"subtitles"` ignores its features, except for their number; the processor then has `row_start="cls"`.
        text_config (`CLIPTextConfig` or `dict`, *optional*): CLIP's text encoder, in the place of the word and
            position tables of the cross-modal BERT (hero §11). Without it, the model is HERO.
        text_norm (`bool`, defaults to `True`): whether a norm follows the projection of CLIP's states.
        caption_vocabulary (`str`, defaults to `"roberta"`): with a `text_config`, the words of captions. `"roberta"`:
            those of HERO, in a table that only captions read. `"clip"`: CLIP's words in a new table. `"clip_tied"`:
            CLIP's words in CLIP's own table, projected to HERO's width and back.
        features (`str`, *optional*): which features the model was trained on, such as `"resnet_slowfast"`.
        ranking_loss (`str`, defaults to `"hinge"`): loss of a match against a mismatch. `"hinge"` is
            max(0, margin + mismatch - match), `"log_sum_exp"` is log(1 + exp(mismatch - match)).
        margin (`float`, defaults to 0.1): of the hinge.
        video_ranking_weight, query_ranking_weight (`float`, default to 8.0): weights of the two ranking losses, in
            which other videos and other queries are the mismatches.
        hard_pool_size (`int`, defaults to 0): how many of the highest mismatches are hard. 0 treats all alike, as
            training does before it switches to hard ones; the published pool has 20 or 80.
        hard_negative_weight (`float`, defaults to 10.0): weight of a hard mismatch; that of the others is 0.1.
        span_loss_weight (`float`, defaults to 0.01): weight of the span loss of retrieval.
        span_drop_probability (`float`, defaults to 0.8): how often a training step leaves out that span loss.
        answer_span_loss_weight (`float`, defaults to 0.4): weight of the span loss of multiple choice.
        label_smoothing (`float`, defaults to 0.1): probability that a caption's loss gives to all other words.

    Raises:
        StrictDataclassError: a value has the wrong type or does not fit the others.

    ```python
    model = HeroForVideoTextRetrieval(HeroConfig(video_feature_size=2816))
    ```
    """

    model_type = "hero"
    auto_map = {
        "AutoConfig": "configuration_hero.HeroConfig",
        "AutoModel": "modeling_hero.HeroModel",
        "AutoModelForImageTextToText": "modeling_hero_captioning.HeroForVideoCaptioning",
        "AutoModelForMultipleChoice": "modeling_hero_answers.HeroForMultipleChoice",
        "AutoModelForSequenceClassification": "modeling_hero_answers.HeroForSequenceClassification",
        "AutoProcessor": "processing_hero.HeroProcessor",
    }
    sub_configs = {
        "cross_modal_config": HeroCrossModalConfig,
        "temporal_config": HeroTemporalConfig,
        "query_config": HeroQueryConfig,
        "text_config": CLIPTextConfig,
        "decoder_config": HeroDecoderConfig,
    }

    cross_modal_config: dict | HeroCrossModalConfig | None = None
    temporal_config: dict | HeroTemporalConfig | None = None
    query_config: dict | HeroQueryConfig | None = None
    decoder_config: dict | HeroDecoderConfig | None = None
    video_feature_size: int = 4352
    max_frames: int = 100
    features: str | None = None
    fusion: Literal["cross_modal", "sum", "concatenation", "sequence"] = "cross_modal"
    channels: Literal["both", "subtitles", "video"] = "both"
    text_config: dict | CLIPTextConfig | None = None
    text_norm: bool = True
    caption_vocabulary: Literal["roberta", "clip", "clip_tied"] = "roberta"
    ranking_loss: Literal["hinge", "log_sum_exp"] = "hinge"
    margin: float | int = 0.1
    video_ranking_weight: float | int = 8.0
    query_ranking_weight: float | int = 8.0
    hard_pool_size: int = 0
    hard_negative_weight: float | int = 10.0
    span_loss_weight: float | int = 0.01
    span_drop_probability: float | int = 0.8
    answer_span_loss_weight: float | int = 0.4
    label_smoothing: float | int = 0.1
    initializer_range: float = 0.02
    is_encoder_decoder: bool = True  # `generate` reads it
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs):
        for name, config_class in self.sub_configs.items():
            value: Any = getattr(self, name)
            if name == "text_config" and value is None:
                continue
            if name == "decoder_config" and value is None:
                value = {field: getattr(self.cross_modal_config, field) for field in DECODER_FIELDS}
            setattr(self, name, own_config(config_class, value))
        super().__post_init__(**kwargs)

    @property
    def num_caption_words(self) -> int:
        """Rows of the vocabulary of captions."""
        is_clips = self.text_config is not None and self.caption_vocabulary != "roberta"
        return (self.text_config if is_clips else self.cross_modal_config).vocab_size

    @property
    def hidden_size(self) -> int:
        """Width of all parts."""
        return self.cross_modal_config.hidden_size

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Any:
        """The part with the words of the inputs, or the one that writes."""
        return self.decoder_config if decoder and not encoder else self.text_config or self.cross_modal_config

    def validate_architecture(self):
        parts = [name for name in self.sub_configs if name != "text_config"]  # CLIP's states are projected
        widths = {name: getattr(self, name).hidden_size for name in parts}
        if len(set(widths.values())) > 1:
            raise ValueError(f"the parts have hidden sizes {widths}; expected one width for all.")
        for name in parts:
            part = getattr(self, name)
            check_heads(part.hidden_size, part.num_attention_heads, f"{name}.")
        if self.max_frames > self.temporal_config.max_position_embeddings:
            raise ValueError(
                f"max_frames is {self.max_frames}, but temporal_config has "
                f"{self.temporal_config.max_position_embeddings} positions."
            )
        if self.text_config is not None and self.fusion != "cross_modal":
            raise ValueError(f"text_config is given and fusion is {self.fusion!r}; expected 'cross_modal' with CLIP.")


__all__ = ["HeroConfig", "HeroCrossModalConfig", "HeroDecoderConfig", "HeroQueryConfig", "HeroTemporalConfig"]
