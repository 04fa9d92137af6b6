"""
HERO's captions (hero §5): a BERT reads the frames of a video, or of segments of it, and writes word after word.

Letters for shapes as in `modeling_hero`; moreover C captions, N tokens of a caption, W words of the vocabulary. The
layers are transformers' own.
"""

import math
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GenerationConfig, GenerationMixin
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.models.bert.modeling_bert import BertEncoder
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_hero import HeroConfig, HeroCrossModalConfig, HeroDecoderConfig
from .modeling_hero import HeroModel
from .modeling_hero_encoders import MASKED, NORM_EPS, HeroEncoderPreTrainedModel, HeroPreTrainedModel

MAX_NEW_TOKENS = 30  # of the original's decoding
FEW_STATES = 5  # up to which slices of a matrix are faster than the whole
VIDEO_INPUTS = (
    "video_features",
    "video_attention_mask",
    "subtitle_input_ids",
    "subtitle_attention_mask",
    "frame_subtitles",
    "segments",
    "video_index",
)


@dataclass
class HeroCaptionMemory(ModelOutput):
    """
    What the decoder reads, an output of `get_memory`.

    Args:
        last_hidden_state (`torch.Tensor` [C, L, D]): the frames of each caption; with `segments`, those of the segment
            alone, 0 at padding.
        video_attention_mask (`torch.Tensor` [C, L]): 1 = frame, 0 = padding.
    """

    last_hidden_state: torch.Tensor | None = None
    video_attention_mask: torch.Tensor | None = None


@dataclass
class HeroCaptionOutput(ModelOutput):
    """
    Output of [`HeroForVideoCaptioning`].

    Args:
        loss (`torch.Tensor`, scalar): with `labels`, the mean over their words, or over `num_items_in_batch`.
        logits (`torch.Tensor` [C, N, W]): of the next word at each place.
        past_key_values (`EncoderDecoderCache`): with `use_cache`, keys and values of the words so far, and of the
            frames.
        encoder_last_hidden_state (`torch.Tensor` [C, L, D]): of [`HeroCaptionMemory`].
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: Cache | None = None
    encoder_last_hidden_state: torch.Tensor | None = None


class HeroStepLinear(nn.Linear):
    """
    States [..., D] to [..., W], fast for the few states of a decoding step.

    Such a step takes as long as reading the matrix. The BLAS of a CPU reads it at half the speed of the memory, unless
    it comes as a batch of slices.
    """

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        rows, slices = states.numel() // self.in_features, math.gcd(self.out_features, 32)
        many = rows > (FEW_STATES if self.in_features <= self.out_features else 1)
        if many or slices == 1 or states.device.type != "cpu":
            return super().forward(states)
        weight, bias = self.weight.view(slices, -1, self.in_features), self.bias.view(slices, -1, 1)
        columns = states.reshape(rows, self.in_features).t().expand(slices, -1, -1)
        return torch.baddbmm(bias, weight, columns).permute(2, 0, 1).reshape(*states.shape[:-1], -1)


class HeroWordHead(HeroEncoderPreTrainedModel):
    """States [..., D] to words [..., W]. The last matrix is that of the word embeddings (hero §2.3)."""

    config: HeroCrossModalConfig

    def __init__(self, config: HeroCrossModalConfig, num_words: int, word_size: int):
        super().__init__(config)
        self.dense = HeroStepLinear(config.hidden_size, word_size)
        self.LayerNorm = nn.LayerNorm(word_size, eps=NORM_EPS)
        self.decoder = HeroStepLinear(word_size, num_words)
        self.post_init()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.LayerNorm(F.gelu(self.dense(states))))


class HeroCaptionDecoder(HeroPreTrainedModel):
    """The BERT that writes: each layer reads the words before, then the frames."""

    config: HeroDecoderConfig

    def __init__(self, config: HeroDecoderConfig):
        super().__init__(config)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=NORM_EPS)
        self.encoder = BertEncoder(config)
        for module in self.encoder.modules():
            if type(module) is nn.Linear:
                module.__class__ = HeroStepLinear
        self.post_init()

    def forward(
        self,
        words: torch.Tensor,
        memory: torch.Tensor,
        memory_mask: torch.Tensor,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """Word embeddings [C, N, D] behind those of the cache, memory [C, L, D] and its mask [C, L] to [C, N, D]."""
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        places = torch.arange(past + words.shape[1], device=words.device)
        states = self.LayerNorm(words + self.position_embeddings(places[past:]))
        later = (places[past:, None] < places).to(states.dtype)[None, None] * MASKED
        padding = (memory_mask == 0).to(states.dtype)[:, None, None] * MASKED
        return self.encoder(
            states,
            attention_mask=later,
            encoder_hidden_states=memory,
            encoder_attention_mask=padding,
            past_key_values=past_key_values,
            **kwargs,
        ).last_hidden_state


class HeroForVideoCaptioning(HeroPreTrainedModel, GenerationMixin):
    """
    Writes captions of subtitled videos or of segments of them (hero §5; TVC, YC2C, VATEX-EN-C).

    `generate` is transformers', with all of its options. It takes the inputs of `forward` but `labels`. Its default is
    the published decoding: the likeliest word each time, at most 30. A video is encoded once, however many segments it
    has.

    ```python
    model = HeroForVideoCaptioning.from_pretrained("org/hero-tvc")
    inputs = processor(video_features=np.load("clip.npy"), subtitles="clip.srt", segments=[(12.0, 19.5)])
    print(processor.batch_decode(model.generate(**inputs, num_beams=4), skip_special_tokens=True))
    ```
    """

    model_tags = ["hf_videolang", "hero", "video-captioning"]
    main_input_name = "video_features"
    accepts_loss_kwargs = True  # the number of words of an update
    _keys_to_ignore_on_save = ["lm_head.decoder.weight"]  # tied, so a Trainer need not warn that a checkpoint lacks it
    _tied_weights_keys = {"lm_head.decoder.weight": "hero.cross_modal_model.embeddings.word_embeddings.weight"}

    def __init__(self, config: HeroConfig):
        super().__init__(config)
        self.hero = HeroModel._from_config(config)
        text: Any = config.text_config
        width, word_size = config.hidden_size, config.hidden_size
        self.caption_words = self.caption_projection = None
        if text is not None and config.caption_vocabulary == "clip_tied":
            word_size = text.hidden_size
            self.caption_projection = nn.Linear(word_size, width)
            self._tied_weights_keys = {"lm_head.decoder.weight": "hero.text_model.embeddings.token_embedding.weight"}
        elif text is not None:
            padding = config.decoder_config.pad_token_id if config.caption_vocabulary == "roberta" else None
            self.caption_words = nn.Embedding(config.num_caption_words, width, padding_idx=padding)
            self._tied_weights_keys = {"lm_head.decoder.weight": "caption_words.weight"}
        self.caption_decoder = HeroCaptionDecoder._from_config(config.decoder_config)
        self.lm_head = HeroWordHead._from_config(
            config.cross_modal_config, num_words=config.num_caption_words, word_size=word_size
        )
        self.post_init()
        self.generation_config.max_new_tokens = MAX_NEW_TOKENS

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if module is self.caption_words:  # as the words of the encoder, since it is a matrix of the head, too
            init.normal_(module.weight, std=self.config.initializer_range)

    @staticmethod
    def published_decoding(config: HeroConfig, tokenizer: Any) -> GenerationConfig:
        """
        The `generation_config` of a new folder: 30 words, each the likeliest (hero §5). Rows of the vocabulary beyond
        the tokenizer of captions, which fill it up, are never written.
        """
        decoder: Any = config.decoder_config
        return GenerationConfig(
            max_new_tokens=MAX_NEW_TOKENS,
            decoder_start_token_id=decoder.decoder_start_token_id,
            bos_token_id=decoder.bos_token_id,
            eos_token_id=decoder.eos_token_id,
            pad_token_id=decoder.pad_token_id,
            suppress_tokens=list(range(len(tokenizer), config.num_caption_words)) or None,
        )

    def get_input_embeddings(self) -> nn.Module:
        return super().get_input_embeddings() if self.caption_words is None else self.caption_words

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head.decoder

    def set_output_embeddings(self, value: nn.Module):
        self.lm_head.decoder = value

    def get_memory(
        self,
        video_features: torch.Tensor | None = None,
        video_attention_mask: torch.Tensor | None = None,
        subtitle_input_ids: torch.Tensor | None = None,
        subtitle_attention_mask: torch.Tensor | None = None,
        frame_subtitles: torch.Tensor | None = None,
        segments: torch.Tensor | None = None,
        video_index: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> HeroCaptionMemory:
        """
        Encodes videos, and takes from them what each caption is about. Arguments are those of `forward`.

        ```python
        memory = model.get_memory(**inputs)
        captions = model.generate(encoder_outputs=memory, do_sample=True)
        ```
        """
        videos = video_features, video_attention_mask, subtitle_input_ids, subtitle_attention_mask, frame_subtitles
        states = self.hero(*videos, return_dict=True, **kwargs).last_hidden_state
        mask = video_attention_mask
        mask = torch.ones(states.shape[:2], dtype=torch.long, device=states.device) if mask is None else mask
        if segments is None:
            if video_index is not None:
                states, mask = states[video_index], mask[video_index]
            return HeroCaptionMemory(last_hidden_state=states, video_attention_mask=mask)
        if video_index is None:
            video_index = torch.arange(len(segments), device=segments.device)
            if len(segments) != len(states):
                raise ValueError(
                    f"{len(segments)} segments of {len(states)} videos; pass video_index, the video of each segment."
                )
        start, end = segments[:, :1], segments[:, 1:]
        longest = states.shape[1]
        if not torch.compiler.is_compiling():
            lengths = mask.sum(dim=1)[video_index]
            wrong = (start < 0) | (end <= start) | (end > lengths[:, None])
            if wrong.any():
                number = int(wrong.nonzero()[0, 0])
                raise ValueError(
                    f"segments[{number}] is {segments[number].tolist()}; expected a first frame and one behind the "
                    f"last, within the {int(lengths[number])} frames of its video."
                )
            longest = int((end - start).max())
        frames = start + torch.arange(longest, device=start.device)
        inside = frames < end
        states = states[video_index[:, None], frames.clamp(max=states.shape[1] - 1)] * inside[..., None]
        return HeroCaptionMemory(last_hidden_state=states, video_attention_mask=inside.long())

    @torch.no_grad()
    def generate(self, inputs: torch.Tensor | None = None, **kwargs: Any) -> Any:
        memory = kwargs.pop("encoder_outputs", None)
        if memory is None:  # made here, since there may be more captions than videos
            given = {name: kwargs.pop(name) for name in VIDEO_INPUTS if name in kwargs}
            given |= {} if inputs is None else {"video_features": inputs}
            memory = self.get_memory(**given)
        kwargs["encoder_outputs"] = HeroCaptionMemory(**memory)  # a copy, since beams repeat it in place
        # A Trainer gives generation_config the tokens of the inputs' tokenizer, which need not be that of captions.
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            kwargs.setdefault(name, getattr(self.config.decoder_config, name))
        return super().generate(**kwargs)

    @can_return_tuple
    def forward(
        self,
        video_features: torch.Tensor | None = None,
        video_attention_mask: torch.Tensor | None = None,
        subtitle_input_ids: torch.Tensor | None = None,
        subtitle_attention_mask: torch.Tensor | None = None,
        frame_subtitles: torch.Tensor | None = None,
        segments: torch.Tensor | None = None,
        video_index: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        encoder_outputs: HeroCaptionMemory | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> HeroCaptionOutput:
        """
        Args:
            video_features, video_attention_mask, subtitle_input_ids, subtitle_attention_mask, frame_subtitles: see
                [`HeroModel`].
            segments: [C, 2], the first frame of a caption's segment, and the one behind its last. `None`: captions
                are about whole videos.
            video_index: [C], the video of each caption. `None`: caption i is about video i.
            labels: [C, N], the words of each caption and the end token; negative ones do not count.
            decoder_input_ids: [C, N], the start token and the words so far; by default those of `labels`.
            encoder_outputs: of `get_memory`, in place of all inputs about videos.
            past_key_values, use_cache: keys and values of earlier words, as `generate` keeps them.
            num_items_in_batch: what the sum over labels is divided by, such as the words of all processes, which a
                Trainer counts. `None`: the labels that count.

        Raises:
            ValueError: inputs are wrong as of [`HeroModel`]; a segment is empty or leaves its video; there are neither
                labels nor words.
        """
        if encoder_outputs is None:
            videos = video_features, video_attention_mask, subtitle_input_ids, subtitle_attention_mask, frame_subtitles
            encoder_outputs = self.get_memory(*videos, segments, video_index, **kwargs)
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("pass labels or decoder_input_ids; generate() writes captions.")
            decoder_input_ids = self.shift_right(labels)
        if use_cache and past_key_values is None:
            past_key_values = EncoderDecoderCache(DynamicCache(), DynamicCache())
        memory = encoder_outputs.last_hidden_state
        words = self.get_input_embeddings()(decoder_input_ids)
        states = self.caption_decoder(
            words if self.caption_projection is None else self.caption_projection(words),
            memory,
            encoder_outputs.video_attention_mask,
            past_key_values,
            **kwargs,
        )
        logits = self.lm_head(states)
        loss = None
        if labels is not None:
            loss = smoothed_cross_entropy(logits, labels, self.config.label_smoothing, num_items_in_batch)
        return HeroCaptionOutput(
            loss=loss, logits=logits, past_key_values=past_key_values, encoder_last_hidden_state=memory
        )

    def shift_right(self, labels: torch.Tensor) -> torch.Tensor:
        """The start token and all labels but the last; padding where no word is learnt."""
        decoder = self.config.decoder_config
        start = torch.full_like(labels[:, :1], decoder.decoder_start_token_id)
        return torch.cat([start, labels[:, :-1]], dim=1).masked_fill(labels < 0, decoder.pad_token_id)


def smoothed_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float, num_items: torch.Tensor | int | None = None
) -> torch.Tensor:
    """
    Kullback-Leibler divergence of the prediction from a target that gives `smoothing` to all other words together; the
    sum over labels that are not negative by `num_items`, else their mean, and 0 if all are negative (hero §5).
    """
    counts = labels >= 0
    logs = logits[counts].float().log_softmax(dim=-1)
    target, others = labels[counts], logits.shape[-1] - 1
    own = logs.gather(1, target[:, None])[:, 0]
    cross_entropy = -(1 - smoothing) * own - smoothing / others * (logs.sum(dim=-1) - own)
    entropy = (1 - smoothing) * math.log(1 - smoothing) + (smoothing and smoothing * math.log(smoothing / others))
    return (cross_entropy + entropy).sum() / (counts.sum().clamp(min=1) if num_items is None else num_items)


__all__ = ["HeroForVideoCaptioning"]
