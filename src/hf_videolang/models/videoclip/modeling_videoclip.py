"""
VideoCLIP (arXiv 2109.14084) and VLM's encoder (arXiv 2105.09996): BERT over rows of video features and over text.

Letters for shapes: B batch, T rows of a video (seconds), S tokens of a text, D width, F width of a row of features.
The layers are transformers' own BERT. Embeddings are averages of token states; their dot product is the similarity,
with neither projection, normalisation nor scale.
"""

from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertModel
from transformers.modeling_outputs import BaseModelOutputWithPooling, TokenClassifierOutput
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple

from hf_videolang.models.s3d.modeling_s3d import S3DVideoModel
from hf_videolang.models.shared.pushed_card import PushedCardMixin
from hf_videolang.models.shared.strict_loading import StrictLoadingMixin

from .configuration_videoclip import VideoCLIPConfig, VideoCLIPTextConfig, VideoCLIPVideoConfig


@dataclass
class VideoCLIPOutput(ModelOutput):
    """
    Output of [`VideoCLIPModel`].

    Args:
        loss (`torch.Tensor`, scalar): with `return_loss=True`. Sum of the text-to-video and video-to-text cross
            entropies of the local batch (videoclip §5.1).
        logits_per_video (`torch.Tensor` [videos, texts]): dot products. They have no scale: compare them within one
            video or one text.
        logits_per_text (`torch.Tensor` [texts, videos]): its transpose.
        text_embeds (`torch.Tensor` [texts, D]), video_embeds (`torch.Tensor` [videos, D]): not normalised.
        text_model_output, video_model_output (`BaseModelOutputWithPooling`): outputs of `get_text_features` and
            `get_video_features`.
    """

    loss: torch.Tensor | None = None
    logits_per_video: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    text_model_output: BaseModelOutputWithPooling | None = None
    video_model_output: BaseModelOutputWithPooling | None = None

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values())


class VideoCLIPFeatureProjector(nn.Module):
    """Rows of features [B, T, F] -> [B, T, D] (videoclip §3.1). Its LayerNorm keeps PyTorch's eps, unlike BERT's."""

    def __init__(self, config: VideoCLIPVideoConfig):
        super().__init__()
        self.linear1 = nn.Linear(config.feature_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size)
        self.linear2 = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, video_features: torch.Tensor) -> torch.Tensor:
        return self.linear2(self.LayerNorm(F.gelu(self.linear1(video_features))))


def _encode(
    bert: BertModel, mask: torch.Tensor, attend_to_cls: bool, output_of: dict[str, Any], kwargs: dict[str, Any]
) -> BaseModelOutputWithPooling:
    """
    Token states of BERT and their mean over everything real but `[CLS]`, with `[SEP]` (videoclip §3.4).

    Args:
        mask: [B, positions], 1 = real.
        attend_to_cls: `False` hides position 0 from all positions.
        output_of: BERT's inputs but the mask.
    """
    behind_cls = torch.arange(mask.shape[1], device=mask.device) > 0
    output = bert(attention_mask=mask if attend_to_cls else mask * behind_cls, **output_of, **kwargs)
    weights = (mask * behind_cls).to(output.last_hidden_state)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return BaseModelOutputWithPooling(
        last_hidden_state=output.last_hidden_state,
        pooler_output=torch.einsum("bs,bsd->bd", weights, output.last_hidden_state),
        hidden_states=output.hidden_states,
        attentions=output.attentions,
    )


def encode_text(
    bert: BertModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    first_position: int = 1,
    token_type: int = 0,
    attend_to_cls: bool = True,
    **kwargs,
) -> BaseModelOutputWithPooling:
    """
    Run a BERT over texts. Where video and text share it, the words' positions and types lie behind the video's.

    Args:
        input_ids, attention_mask: [B, S], `[CLS]` words `[SEP]`, padded.
        first_position, token_type: of the token behind `[CLS]`; `[CLS]` itself has 0 and 0.
        attend_to_cls: whether other tokens see `[CLS]`.
    """
    length, longest = input_ids.shape[1], bert.config.max_position_embeddings - first_position + 1
    if length > longest:
        raise ValueError(
            f"The text has {length} tokens but the model has positions for {longest}; tokenise with truncation=True, "
            f"max_length={longest}."
        )
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    behind_cls = torch.arange(length, device=input_ids.device)[None]
    inputs = {
        "input_ids": input_ids,
        "position_ids": behind_cls + (first_position - 1) * (behind_cls > 0),
        "token_type_ids": (token_type * (behind_cls > 0)).expand_as(input_ids),
    }
    return _encode(bert, mask, attend_to_cls, inputs, kwargs)


class VideoCLIPPreTrainedModel(PushedCardMixin, StrictLoadingMixin, PreTrainedModel):
    """Initialisation, loading and saving of every VideoCLIP class. A checkpoint that lacks a weight raises."""

    config: VideoCLIPConfig
    base_model_prefix = "videoclip"
    model_tags = ["hf_videolang", "videoclip", "video-text-retrieval"]
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _no_split_modules = ["BertEmbeddings", "BertLayer", "S3DVideoModel"]
    _supports_sdpa = True
    _supports_attention_backend = True


class VideoCLIPTextModel(VideoCLIPPreTrainedModel):
    """
    The text tower (videoclip §3.3). Also loads from a folder of the whole model.

    ```python
    model = VideoCLIPTextModel.from_pretrained("org/videoclip")
    text_embeds = model(**processor(text=["crack eggs"])).pooler_output
    ```
    """

    config: VideoCLIPTextConfig
    base_model_prefix = "text_model"
    input_modalities = ("text",)
    _keys_to_ignore_on_load_unexpected = [r"^(video_model|s3d|classifier)\."]

    def __init__(self, config: VideoCLIPTextConfig):
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.bert.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.bert.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """
        Args:
            input_ids: [B, S], `[CLS]` words `[SEP]`, padded. The released models were trained with S up to 63.
            attention_mask: [B, S], 1 = token. `None`: all are tokens.

        Returns:
            `last_hidden_state` [B, S, D], and `pooler_output` [B, D], its mean over words and `[SEP]`.

        Raises:
            ValueError: no `input_ids`, or more tokens than positions.
        """
        if input_ids is None:
            raise ValueError("input_ids is None; the text tower needs token ids [batch, length].")
        return encode_text(self.bert, input_ids, attention_mask, **kwargs)


class VideoCLIPVideoModel(VideoCLIPPreTrainedModel):
    """
    The video tower over rows of features (videoclip §3.2). Also loads from a folder of the whole model.

    ```python
    model = VideoCLIPVideoModel.from_pretrained("org/videoclip")
    video_embeds = model(video_features=rows).pooler_output  # rows of S3D, [batch, seconds, 512]
    ```
    """

    config: VideoCLIPVideoConfig
    base_model_prefix = "video_model"
    main_input_name = "video_features"
    input_modalities = ("video",)
    _keys_to_ignore_on_load_unexpected = [r"^(text_model|s3d|classifier)\."]

    def __init__(self, config: VideoCLIPVideoConfig):
        super().__init__(config)
        self.projector = VideoCLIPFeatureProjector(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.bert.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.bert.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        video_features: torch.Tensor | None = None,
        video_attention_mask: torch.Tensor | None = None,
        attend_to_cls: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """
        Args:
            video_features: [B, T, F], one row a second, T at most `max_video_length`. Released models read unit rows.
            video_attention_mask: [B, T], 1 = row, 0 = padding. `None`: all rows are real.
            attend_to_cls: whether other positions see `[CLS]`; the config's by default. `False` is the original's
                layout for segmentation (videoclip §3.5), for the same weights.

        Returns:
            `last_hidden_state` [B, 1 + T + 1, D] of `[CLS]`, the rows and `[SEP]`; `pooler_output` [B, D], its mean
            over real rows and `[SEP]`.

        Raises:
            ValueError: the input has another shape than the model expects.
        """
        config = self.config
        rows = None if video_features is None else tuple(video_features.shape)
        if (
            rows is None
            or len(rows) != 3
            or rows[2] != config.feature_size
            or not 0 < rows[1] <= config.max_video_length
        ):
            raise ValueError(
                f"video_features is {rows}; expected [batch, 1 to {config.max_video_length} seconds, "
                f"{config.feature_size}]. Use the processor saved with the model, which keeps the first "
                f"{config.max_video_length} seconds, and features of the extractor that the model was trained with."
            )
        batch, length = rows[:2]
        mask = video_attention_mask
        if mask is None:
            mask = torch.ones(batch, length, dtype=torch.long, device=video_features.device)
        if mask.shape != rows[:2]:
            raise ValueError(f"video_attention_mask is {tuple(mask.shape)}; expected [batch, seconds] = {rows[:2]}.")
        ends = torch.tensor([config.cls_token_id, config.sep_token_id], device=video_features.device)
        cls, sep = self.bert.get_input_embeddings()(ends).expand(batch, -1, -1).split(1, dim=1)
        positions = torch.arange(length + 2, device=video_features.device)
        positions[-1] = config.max_video_length + 1  # of [SEP], however short the video is
        inputs = {
            "inputs_embeds": torch.cat([cls, self.projector(video_features.to(cls.dtype)), sep], dim=1),
            "position_ids": positions[None],
        }
        mask = F.pad(mask, (1, 1), value=1)
        attend_to_cls = config.attend_to_cls if attend_to_cls is None else attend_to_cls
        return _encode(self.bert, mask, attend_to_cls, inputs, kwargs)


class VideoCLIPModel(VideoCLIPPreTrainedModel):
    """
    Both towers, and S3D if the config has one (videoclip §3).

    ```python
    model = VideoCLIPModel.from_pretrained("org/videoclip")
    processor = VideoCLIPProcessor.from_pretrained("org/videoclip")
    inputs = processor(videos="lesson.mp4", text=["crack eggs", "slice onions"])
    print(model(**inputs).logits_per_video.softmax(-1))
    ```
    """

    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]

    def __init__(self, config: VideoCLIPConfig):
        super().__init__(config)
        self.video_model = VideoCLIPVideoModel._from_config(config.video_config)
        self.text_model = None
        if config.encoder == "separate":
            self.text_model = VideoCLIPTextModel._from_config(config.text_config)
        self.s3d = None
        if config.s3d_config is not None:
            self.s3d = S3DVideoModel._from_config(config.s3d_config)
        self.post_init()

    def train(self, mode: bool = True):
        super().train(mode)
        if self.s3d is not None:  # frozen, and its running statistics stay as they are
            self.s3d.eval().requires_grad_(False)
        return self

    def get_input_embeddings(self) -> nn.Module:
        return (self.text_model or self.video_model).get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        (self.text_model or self.video_model).set_input_embeddings(value)

    def _rows(
        self,
        video_features: torch.Tensor | None,
        pixel_values_videos: torch.Tensor | None,
        video_attention_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """Rows of features, from features themselves or from pixels through the S3D inside."""
        if (video_features is None) == (pixel_values_videos is None):
            given = "Neither" if video_features is None else "Both"
            raise ValueError(f"{given} of video_features and pixel_values_videos is given; pass one of them.")
        if video_features is not None:
            return video_features
        return self.make_features(pixel_values_videos, video_attention_mask)

    @torch.no_grad()
    def make_features(
        self, pixel_values_videos: torch.Tensor | None, video_attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Rows of features by the S3D inside, for videos of any length.

        Args:
            pixel_values_videos, video_attention_mask: see [`S3DVideoModel`].

        Returns:
            [B, T, F], one row a second, of norm 1 if `config.normalize_features`.

        Raises:
            ValueError: the model holds no S3D, or the input has another shape than it expects.
        """
        if self.s3d is None:
            raise ValueError(
                "pixel_values_videos is given, but this model holds no S3D. Pass video_features (a command takes "
                "--features), or convert the checkpoint again with --s3d and the folder of S3D."
            )
        rows = self.s3d(pixel_values_videos, video_attention_mask).video_features
        return F.normalize(rows, dim=-1) if self.config.normalize_features else rows

    @can_return_tuple
    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutputWithPooling:
        """
        Arguments and errors as in [`VideoCLIPTextModel`].

        Returns:
            `last_hidden_state` [B, S, D] and `pooler_output` [B, D], not normalised.

        ```python
        features = model.get_text_features(**processor(text=["crack eggs"])).pooler_output
        ```
        """
        if self.text_model is not None:
            return self.text_model(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        return encode_text(
            self.video_model.bert,
            input_ids,
            attention_mask,
            first_position=self.video_model.config.max_video_length + 2,
            token_type=1,
            attend_to_cls=self.config.encoder == "shared",
            **kwargs,
        )

    @can_return_tuple
    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        video_attention_mask: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        attend_to_cls: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """
        Args:
            pixel_values_videos: [B, T * 30, 3, H, W], see [`S3DVideoModel`]; needs a model with S3D inside.
            video_attention_mask: [B, T], 1 = second.
            video_features: [B, T, F], in place of pixels.
            attend_to_cls: see [`VideoCLIPVideoModel`].

        Returns:
            `last_hidden_state` [B, 1 + T + 1, D], whose `[:, 1:-1]` are the seconds, and `pooler_output` [B, D], not
            normalised.

        Raises:
            ValueError: both or none of pixels and features, pixels without S3D, or another shape than expected.

        ```python
        features = model.get_video_features(**processor(videos=["lesson.mp4"])).pooler_output
        ```
        """
        rows = self._rows(video_features, pixel_values_videos, video_attention_mask)
        return self.video_model(
            video_features=rows, video_attention_mask=video_attention_mask, attend_to_cls=attend_to_cls, **kwargs
        )

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_attention_mask: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        return_loss: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> VideoCLIPOutput:
        """
        Takes text, video or both. With one of them, the fields that need the other are `None`.

        Args:
            input_ids, attention_mask: [texts, S], see [`VideoCLIPTextModel`].
            pixel_values_videos, video_attention_mask, video_features: see [`~VideoCLIPModel.get_video_features`].
            return_loss: also compute the loss of the local batch. Text i belongs to video i.

        Raises:
            ValueError: neither text nor video is given, or `return_loss` without as many texts as videos.
        """
        has_video = pixel_values_videos is not None or video_features is not None
        if input_ids is None and not has_video:
            raise ValueError("input_ids, pixel_values_videos and video_features are None; pass text, video or both.")
        text_output = video_output = text_embeds = video_embeds = None
        logits_per_text = logits_per_video = loss = None
        if input_ids is not None:
            text_output = self.get_text_features(input_ids, attention_mask, return_dict=True, **kwargs)
            text_embeds = text_output.pooler_output
        if has_video:
            video_output = self.get_video_features(
                pixel_values_videos, video_attention_mask, video_features, return_dict=True, **kwargs
            )
            video_embeds = video_output.pooler_output
        if text_embeds is not None and video_embeds is not None:
            logits_per_text = text_embeds @ video_embeds.t().to(text_embeds.device)
            logits_per_video = logits_per_text.t()
        if return_loss:
            if logits_per_text is None or logits_per_text.shape[0] != logits_per_text.shape[1]:
                given = None if logits_per_text is None else tuple(logits_per_text.shape)
                raise ValueError(
                    f"return_loss needs as many texts as videos, text i for video i; got {given} (texts, videos)."
                )
            pairs = torch.arange(logits_per_text.shape[0], device=logits_per_text.device)
            loss = F.cross_entropy(logits_per_text, pairs) + F.cross_entropy(logits_per_video, pairs)
        return VideoCLIPOutput(
            loss=loss,
            logits_per_video=logits_per_video,
            logits_per_text=logits_per_text,
            text_embeds=text_embeds,
            video_embeds=video_embeds,
            text_model_output=text_output,
            video_model_output=video_output,
        )


class VideoCLIPForTokenClassification(VideoCLIPModel):
    """
    A label for each second: the video tower with a linear layer, as trained on COIN (videoclip §3.5). `[CLS]` is
    hidden from attention. The text tower is there, frozen and unused. Also loads from a folder of [`VideoCLIPModel`];
    the classifier is then new.

    ```python
    model = VideoCLIPForTokenClassification.from_pretrained("org/videoclip-coin")
    labels = model(**processor(videos=["lesson.mp4"])).logits.argmax(-1)  # [1, seconds]
    ```
    """

    input_modalities = ("video",)
    main_input_name = "video_features"
    _keys_to_ignore_on_load_unexpected: list[str] = []
    _keys_that_may_be_new = [r"^classifier\."]

    def __init__(self, config: VideoCLIPConfig):
        super().__init__(config)
        self.classifier = nn.Linear(config.video_config.hidden_size, config.num_labels)
        self.post_init()

    def train(self, mode: bool = True):
        super().train(mode)
        if self.text_model is not None:
            self.text_model.requires_grad_(False)
        return self

    @can_return_tuple
    def forward(
        self,
        video_features: torch.Tensor | None = None,
        video_attention_mask: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TokenClassifierOutput:
        """
        Args:
            video_features, video_attention_mask, pixel_values_videos: see [`~VideoCLIPModel.get_video_features`].
            labels: [B, T], the class of each second, -100 for seconds that do not count.

        Returns:
            `logits` [B, T, num_labels]; `loss`, the mean cross entropy, with labels.

        Raises:
            ValueError: both or none of pixels and features, pixels without S3D, or another shape than expected.
        """
        rows = self._rows(video_features, pixel_values_videos, video_attention_mask)
        output = self.video_model(rows, video_attention_mask, attend_to_cls=False, return_dict=True, **kwargs)
        logits = self.classifier(output.last_hidden_state[:, 1:-1])
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=output.hidden_states, attentions=output.attentions
        )


__all__ = [
    "VideoCLIPForTokenClassification",
    "VideoCLIPModel",
    "VideoCLIPPreTrainedModel",
    "VideoCLIPTextModel",
    "VideoCLIPVideoModel",
]
