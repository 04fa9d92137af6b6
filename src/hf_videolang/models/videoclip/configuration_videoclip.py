"""Configuration of VideoCLIP (arXiv 2109.14084): BERT over rows of video features, BERT over text, and perhaps S3D."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import BertConfig
from transformers.configuration_utils import PreTrainedConfig

from hf_videolang.models.s3d.configuration_s3d import S3DConfig
from hf_videolang.models.shared.remote_code import RemoteCodeMixin
from hf_videolang.models.shared.sub_configs import check_heads, own_config


@strict
class VideoCLIPTextConfig(RemoteCodeMixin, BertConfig):
    """
    Text tower of VideoCLIP: a plain BERT without pooler (videoclip §3.3). Fields and defaults are those of
    `BertConfig`.

    ```python
    model = VideoCLIPTextModel(VideoCLIPTextConfig(num_hidden_layers=6))
    ```
    """

    model_type = "videoclip_text_model"
    auto_map = {
        "AutoConfig": "configuration_videoclip.VideoCLIPTextConfig",
        "AutoModel": "modeling_videoclip.VideoCLIPTextModel",
    }
    base_config_key = "text_config"

    def validate_architecture(self):
        check_heads(self.hidden_size, self.num_attention_heads)


@strict
class VideoCLIPVideoConfig(RemoteCodeMixin, BertConfig):
    """
    Video tower of VideoCLIP: a projector of features and a BERT of 6 layers (videoclip §3.1, §3.2). The other fields
    are those of `BertConfig`.

    Args:
        feature_size (`int`, defaults to 512): width of a row of features.
        max_video_length (`int`, defaults to 32): rows of the longest video. A row is a second.
        cls_token_id, sep_token_id (`int`, default to 101, 102): words of the tower's own table that stand before and
            after the rows.
        attend_to_cls (`bool`, defaults to `True`): whether other positions see `[CLS]`. `False` in VLM.

    ```python
    model = VideoCLIPVideoModel(VideoCLIPVideoConfig())
    ```
    """

    model_type = "videoclip_video_model"
    auto_map = {
        "AutoConfig": "configuration_videoclip.VideoCLIPVideoConfig",
        "AutoModel": "modeling_videoclip.VideoCLIPVideoModel",
    }
    base_config_key = "video_config"

    num_hidden_layers: int = 6
    feature_size: int = 512
    max_video_length: int = 32
    cls_token_id: int = 101
    sep_token_id: int = 102
    attend_to_cls: bool = True

    def validate_architecture(self):
        check_heads(self.hidden_size, self.num_attention_heads)
        if max(self.cls_token_id, self.sep_token_id) >= self.vocab_size:
            raise ValueError(
                f"cls_token_id is {self.cls_token_id} and sep_token_id is {self.sep_token_id}; expected words of the "
                f"table, which has {self.vocab_size}."
            )
        if self.max_video_length + 2 > self.max_position_embeddings:
            raise ValueError(
                f"max_video_length is {self.max_video_length}, and [CLS] and [SEP] need 2 more positions; "
                f"max_position_embeddings is {self.max_position_embeddings}."
            )


@strict
class VideoCLIPConfig(RemoteCodeMixin, PreTrainedConfig):
    """
    VideoCLIP (videoclip §3), and VLM's encoder.

    Args:
        text_config (`VideoCLIPTextConfig` or `dict`, *optional*): the text tower. With one encoder for both, it
            repeats the sizes of `video_config`.
        video_config (`VideoCLIPVideoConfig` or `dict`, *optional*): the video tower.
        s3d_config (`S3DConfig` or `dict`, *optional*): the S3D that makes rows of features from pixels. Without it the
            model reads features only.
        encoder (`str`, defaults to `"separate"`): `"separate"` is VideoCLIP. `"shared"` has one BERT for video and
            text, a row of the paper's ablation. `"isolated"` is VLM's encoder: one BERT, in which `[CLS]` is never
            attended to (videoclip §3.6).
        normalize_features (`bool`, defaults to `True`): whether rows that S3D makes inside the model become unit
            vectors, as VideoCLIP was trained. `False` is the original's demo.

    Raises:
        StrictDataclassError: a value has the wrong type or does not fit the others.

    ```python
    model = VideoCLIPModel(VideoCLIPConfig(s3d_config={}))  # S3D inside, with its default sizes
    ```
    """

    model_type = "videoclip"
    auto_map = {
        "AutoConfig": "configuration_videoclip.VideoCLIPConfig",
        "AutoModel": "modeling_videoclip.VideoCLIPModel",
        "AutoModelForTokenClassification": "modeling_videoclip.VideoCLIPForTokenClassification",
        "AutoVideoProcessor": "video_processing_videoclip.VideoCLIPVideoProcessor",
        "AutoProcessor": "processing_videoclip.VideoCLIPProcessor",
    }
    sub_configs = {"text_config": VideoCLIPTextConfig, "video_config": VideoCLIPVideoConfig, "s3d_config": S3DConfig}

    text_config: dict | VideoCLIPTextConfig | None = None
    video_config: dict | VideoCLIPVideoConfig | None = None
    s3d_config: dict | S3DConfig | None = None
    encoder: Literal["separate", "shared", "isolated"] = "separate"
    normalize_features: bool = True

    def __post_init__(self, **kwargs):
        self.video_config = own_config(VideoCLIPVideoConfig, self.video_config)
        if self.encoder == "isolated":
            self.video_config.attend_to_cls = False
        if self.encoder != "separate":
            self.text_config = {name: getattr(self.video_config, name) for name in BertConfig.__annotations__}
        self.text_config = own_config(VideoCLIPTextConfig, self.text_config)
        if self.s3d_config is not None:
            self.s3d_config = own_config(S3DConfig, self.s3d_config)
        super().__post_init__(**kwargs)

    def validate_architecture(self):
        video: Any = self.video_config
        s3d: Any = self.s3d_config
        if s3d is not None and s3d.projection_dim != video.feature_size:
            raise ValueError(
                f"s3d_config.projection_dim is {s3d.projection_dim} and video_config.feature_size is "
                f"{video.feature_size}; the video tower must read rows as wide as those that S3D makes."
            )
        if video.hidden_size != self.text_config.hidden_size:
            raise ValueError(
                f"video_config.hidden_size is {video.hidden_size} and text_config.hidden_size is "
                f"{self.text_config.hidden_size}; the towers must be equally wide, since there is no projection."
            )


__all__ = ["VideoCLIPConfig", "VideoCLIPTextConfig", "VideoCLIPVideoConfig"]
