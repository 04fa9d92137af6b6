"""Configuration of CLIP-ViP (arXiv 2209.06430): two CLIP towers, the visual one over video with proxy tokens."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

from hf_videolang.models.shared.remote_code import RemoteCodeMixin
from hf_videolang.models.shared.sub_configs import check_heads, own_config

FrameFusion = Literal["proxy", "mean_pooling", "sequence_transformer", "full_attention"]


@strict
class CLIPViPTextConfig(RemoteCodeMixin, PreTrainedConfig):
    """
    Text tower of CLIP-ViP: the CLIP text transformer unchanged (clip_vip §1.3). Defaults are those of B/16 and B/32.

    Args:
        vocab_size (`int`, defaults to 49408): entries of the token table.
        hidden_size, intermediate_size, num_hidden_layers, num_attention_heads (`int`, default to 512, 2048, 12, 8):
            width, width of the feed-forward layer, blocks, heads.
        projection_dim (`int`, defaults to 512): width of the shared embedding space.
        max_position_embeddings (`int`, defaults to 77): rows of the position table, the longest text in tokens.
        hidden_act (`str`, defaults to `"quick_gelu"`), layer_norm_eps (`float`, defaults to 1e-5),
        attention_dropout (`float`, defaults to 0.0): as in CLIP.
        initializer_range, initializer_factor (`float`, default to 0.02, 1.0): CLIP's initialisation scheme.
        eos_token_id (`int`, defaults to 49407): the end token. The text is pooled at its first occurrence.
        pad_token_id, bos_token_id (`int`, default to 49407, 49406): padding and begin. CLIP-ViP pads with the end
            token. Neither changes a result, since attention is causal.

    ```python
    model = CLIPViPTextModel(CLIPViPTextConfig(num_hidden_layers=6))
    ```
    """

    model_type = "clip_vip_text_model"
    auto_map = {
        "AutoConfig": "configuration_clip_vip.CLIPViPTextConfig",
        "AutoModel": "modeling_clip_vip.CLIPViPTextModel",
    }
    base_config_key = "text_config"

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    projection_dim: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float | int = 1e-5
    attention_dropout: float | int = 0.0
    initializer_range: float | int = 0.02
    initializer_factor: float | int = 1.0
    pad_token_id: int | None = 49407
    bos_token_id: int | None = 49406
    eos_token_id: int = 49407

    def validate_architecture(self):
        check_heads(self.hidden_size, self.num_attention_heads)


@strict
class CLIPViPVisionConfig(RemoteCodeMixin, PreTrainedConfig):
    """
    Video tower of CLIP-ViP (clip_vip §1.1). Defaults are those of B/32; B/16 sets `patch_size=16`.

    Args:
        hidden_size, intermediate_size, num_hidden_layers, num_attention_heads (`int`, default to 768, 3072, 12, 12):
            width, width of the feed-forward layer, blocks, heads.
        projection_dim (`int`, defaults to 512): width of the shared embedding space.
        num_channels, image_size, patch_size (`int`, default to 3, 224, 32): frames are square. The model refuses
            another resolution, because position embeddings are not interpolated in space.
        num_frames (`int`, defaults to 12): rows of the temporal embedding (`temporal_size` of the original). Videos
            may have another number of frames; the call then interpolates the embedding.
        num_proxy_tokens (`int`, defaults to 4): all proxy tokens, the class token included (`add_cls_num + 1`). It is
            1 if `frame_fusion` is not `"proxy"`.
        use_temporal_embedding (`bool`, defaults to `True`): `False` leaves the temporal embedding out
            (`if_use_temporal_embed`). It is `False` if frames pass the tower one by one.
        frame_fusion (`str`, defaults to `"proxy"`): how frames become one video embedding. `"proxy"` is CLIP-ViP. The
            others are the comparators of the paper's ablation (clip_vip §7): `"mean_pooling"` (CLIP on each frame,
            mean of unit vectors), `"sequence_transformer"` (CLIP4Clip's transformer over frame features) and
            `"full_attention"` (one class token, unmasked attention over all patches of all frames).
        num_sequence_layers, num_sequence_heads, max_sequence_frames (`int`, default to 4, 8, 77): blocks, heads and
            frame positions of the `"sequence_transformer"`; unused otherwise.
        hidden_act (`str`, defaults to `"quick_gelu"`), layer_norm_eps (`float`, defaults to 1e-5),
        attention_dropout (`float`, defaults to 0.0), initializer_range, initializer_factor (`float`, default to
            0.02, 1.0): as in CLIP.

    ```python
    model = CLIPViPVisionModel(CLIPViPVisionConfig(patch_size=16))  # B/16
    ```
    """

    model_type = "clip_vip_vision_model"
    auto_map = {
        "AutoConfig": "configuration_clip_vip.CLIPViPVisionConfig",
        "AutoModel": "modeling_clip_vip.CLIPViPVisionModel",
    }
    base_config_key = "vision_config"

    hidden_size: int = 768
    intermediate_size: int = 3072
    projection_dim: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 32
    num_frames: int = 12
    num_proxy_tokens: int = 4
    use_temporal_embedding: bool = True
    frame_fusion: FrameFusion = "proxy"
    num_sequence_layers: int = 4
    num_sequence_heads: int = 8
    max_sequence_frames: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float | int = 1e-5
    attention_dropout: float | int = 0.0
    initializer_range: float | int = 0.02
    initializer_factor: float | int = 1.0

    def __post_init__(self, **kwargs):
        if self.frame_fusion != "proxy":
            self.num_proxy_tokens = 1  # the class token alone
        if self.frame_fusion in ("mean_pooling", "sequence_transformer"):
            self.use_temporal_embedding = False  # frames pass the tower one by one
        super().__post_init__(**kwargs)

    def validate_architecture(self):
        check_heads(self.hidden_size, self.num_attention_heads)
        if self.frame_fusion == "sequence_transformer":
            check_heads(self.projection_dim, self.num_sequence_heads)


@strict
class CLIPViPConfig(RemoteCodeMixin, PreTrainedConfig):
    """
    CLIP-ViP: both towers, their projections and the logit scale (clip_vip §1; original class `VidCLIP`).

    Args:
        text_config (`CLIPViPTextConfig` or `dict`, *optional*): the text tower; defaults of the class if absent.
        vision_config (`CLIPViPVisionConfig` or `dict`, *optional*): the video tower; defaults of the class if absent.
        projection_dim (`int`, defaults to 512): width of the shared embedding space, written into both towers.
        logit_scale_init_value (`float`, defaults to 4.6): initial logarithm of the scale of the logits. The original
            uses 4.60, not ln 100.
        initializer_factor (`float`, defaults to 1.0): factor of CLIP's initialisation for the projections.

    Raises:
        StrictDataclassError: a value has the wrong type or does not fit the others.

    ```python
    config = CLIPViPConfig(vision_config={"patch_size": 16})  # B/16
    model = CLIPViPModel(config)
    ```
    """

    model_type = "clip_vip"
    auto_map = {
        "AutoConfig": "configuration_clip_vip.CLIPViPConfig",
        "AutoModel": "modeling_clip_vip.CLIPViPModel",
        "AutoVideoProcessor": "video_processing_clip_vip.CLIPViPVideoProcessor",
        "AutoProcessor": "processing_clip_vip.CLIPViPProcessor",
    }
    sub_configs = {"text_config": CLIPViPTextConfig, "vision_config": CLIPViPVisionConfig}

    text_config: dict | CLIPViPTextConfig | None = None
    vision_config: dict | CLIPViPVisionConfig | None = None
    projection_dim: int = 512
    logit_scale_init_value: float | int = 4.6
    initializer_factor: float | int = 1.0

    def __post_init__(self, **kwargs):
        for key, config_class in (("text_config", CLIPViPTextConfig), ("vision_config", CLIPViPVisionConfig)):
            value = getattr(self, key)
            if not isinstance(value, PreTrainedConfig):
                value = {**(value or {}), "projection_dim": self.projection_dim}
            elif value.projection_dim != self.projection_dim:
                raise ValueError(
                    f"projection_dim is {self.projection_dim} but {key}.projection_dim is {value.projection_dim}; "
                    "both towers must project to the same width."
                )
            setattr(self, key, own_config(config_class, value))
        super().__post_init__(**kwargs)


__all__ = ["CLIPViPConfig", "CLIPViPTextConfig", "CLIPViPVisionConfig"]
