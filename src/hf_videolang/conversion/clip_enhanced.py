"""
CLIP-Enhanced as training starts it: HERO, with CLIP's text encoder in the place of its text embeddings (hero §11).

The authors released neither weights nor code. What their report leaves open is decided as hero §11 recommends.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextConfig

from hf_videolang.conversion.hero.roberta import Roberta, find_roberta, short
from hf_videolang.conversion.hero.settings import ROBERTA, load_roberta_tokenizer, name_features, vocabulary_size
from hf_videolang.conversion.hero.starts import HEADS, kept_layers, map_start, of_roberta, own_tokenizer, start_config
from hf_videolang.conversion.model_folder import Conversion, check_is_free, write_model_folder
from hf_videolang.conversion.openai_clip import openai_origin
from hf_videolang.conversion.tensor_map import Origin, as_is, state_dict
from hf_videolang.conversion.tokenizers import CLIP_FILES, load_tokenizer
from hf_videolang.conversion.untrusted import ConversionError, read_checkpoint
from hf_videolang.models.hero.modeling_hero_captioning import HeroForVideoCaptioning
from hf_videolang.models.hero.processing_hero import HeroProcessor

CLIP = "openai/clip-vit-base-patch32"
HEAD_WIDTH = 64
FILES = ["*.json", "*.txt", "model.safetensors", "pytorch_model.bin"]  # of a repository
CLIP_KEY, ROBERTA_KEY = "clip: ", "roberta: "  # before the keys of each file in the report
OPENAI_TEXT = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.")
# Of RoBERTa, where the model has no place for it.
ROBERTA_UNREAD = {
    r"embeddings\.position_embeddings\.": "CLIP has the positions",
    r"embeddings\.LayerNorm\.": "no norm follows the projection",
    r"embeddings\.word_embeddings\.": "captions have CLIP's words",
    r"lm_head\.": "captions have CLIP's words",
}


@dataclass(frozen=True)
class ClipText:
    """The text encoder of a CLIP. `values` are those of its checkpoint at `path`."""

    values: Mapping[str, Any]
    path: Path

    @property
    def is_openai(self) -> bool:
        return "token_embedding.weight" in self.values

    def origin(self, name: str) -> Origin:
        """Key and transformation for a name of transformers' `CLIPTextModel`."""
        if self.is_openai:
            return openai_origin(f"text_model.{name}")
        return self.prefix + name, as_is

    @property
    def prefix(self) -> str:
        """A `CLIPTextModel` saved alone has none."""
        return "text_model." if any(key.startswith("text_model.") for key in self.values) else ""

    def drop_reason(self, key: str) -> str | None:
        """Why CLIP-Enhanced does without a key, or `None`."""
        if key.endswith("position_ids"):
            return "buffer 0, 1, 2, …"
        of_text = OPENAI_TEXT if self.is_openai else self.prefix
        return None if key.startswith(of_text) else "CLIP-Enhanced reads nothing of CLIP but the states of tokens"

    def config(self) -> CLIPTextConfig:
        """By the `config.json` beside the weights, else by the shapes."""
        words, width = self._shape("embeddings.token_embedding.weight")
        if self.path.with_name("config.json").exists() and not self.is_openai:
            return CLIPTextConfig.from_pretrained(self.path.parent)
        stem = self.origin("encoder.layers.0.layer_norm1.weight")[0].partition(".0.")[0]
        layers = {key.removeprefix(stem).split(".")[1] for key in self.values if key.startswith(f"{stem}.")}
        if width % HEAD_WIDTH:
            raise ConversionError(
                f"{self.path} has a text encoder of width {width}, from which the number of its heads, {HEAD_WIDTH} "
                "wide in OpenAI's, does not follow. Give the folder of the model on the Hub, with its config.json."
            )
        return CLIPTextConfig(
            vocab_size=words,
            hidden_size=width,
            intermediate_size=self._shape("encoder.layers.0.mlp.fc1.weight")[0],
            num_hidden_layers=len(layers),
            num_attention_heads=width // HEAD_WIDTH,
            max_position_embeddings=self._shape("embeddings.position_embedding.weight")[0],
        )

    def _shape(self, name: str) -> tuple[int, ...]:
        key = self.origin(name)[0]
        value = self.values.get(key)
        if not isinstance(value, Tensor):
            raise ConversionError(f"{self.path} has no {key}; expected a CLIP, of OpenAI or as on the Hub.")
        return tuple(value.shape)


def init_clip_enhanced(
    clip: str | Path,
    roberta: str | Path,
    output_dir: str | Path,
    *,
    features: str | None = "clip-vit_slowfast",
    video_feature_size: str | None = None,
    config: str | Path | None = None,
    clip_tokenizer: str | Path | None = None,
    roberta_tokenizer: str | Path | None = None,
    cross_modal: Literal["roberta", "random"] = "roberta",
    text_norm: bool = True,
    caption_vocabulary: Literal["roberta", "clip", "clip_tied"] = "roberta",
    seed: int = 42,
    push_to_hub: str | None = None,
) -> dict[str, Any]:
    """
    Make the folder from which CLIP-Enhanced is trained.

    Args:
        clip: any CLIP: OpenAI's file, or a folder or id of the Hub. Width and length of texts are its own.
        roberta: RoBERTa for masked words: a file, or a folder or id of the Hub. It gives widths and heads.
        output_dir: folder to make. It must not exist, or be empty.
        features: name of VALUE's features; `"none"` for others, with their width as `video_feature_size`.
        config: the authors' JSON of a HERO, for other numbers of layers than 6, 3 and 2.
        clip_tokenizer, roberta_tokenizer: by default those beside the weights, else the published ones.
        cross_modal: whether the cross-modal BERT starts from RoBERTa's layers or at random.
        text_norm: whether a norm follows the projection of CLIP's states.
        caption_vocabulary: the words of captions, see [`HeroConfig`].
        seed: of all that is random.
        push_to_hub: `"ORGANISATION/NAME"` to upload the folder to.

    Returns:
        The content of `conversion_report.json`, which says of every tensor where it comes from or that it is random.

    Raises:
        ConversionError: a file or tokenizer cannot be used, or they do not fit. No folder is left behind.
        HFValidationError: `push_to_hub` is not the id of a repository.

    Example:
        >>> init_clip_enhanced("openai/clip-vit-base-patch32", "FacebookAI/roberta-base", "clip-enhanced-start")
    """
    output_dir = Path(output_dir).absolute()
    check_is_free(output_dir, push_to_hub)
    sources = {"clip": read_checkpoint(fetched(clip)), "roberta": read_checkpoint(fetched(roberta))}
    values = {name: state_dict(source)[0] for name, source in sources.items()}
    text = ClipText(values["clip"], sources["clip"].path)
    words = find_roberta(values["roberta"], sources["roberta"].path)
    if words is None:
        raise ConversionError(f"{roberta} is no RoBERTa for masked words; give --roberta {ROBERTA}.")
    text_config = text.config()
    tokenizer = load_clip_tokenizer(clip_tokenizer or own_tokenizer(text.path, CLIP), text_config)
    reading: dict[str, Any] = {"text_norm": text_norm, "caption_vocabulary": caption_vocabulary}
    model_config = start_config(words, config, features, video_feature_size, text_config=text_config, **reading)
    if caption_vocabulary != "roberta":
        decoder: Any = model_config.decoder_config
        decoder.bos_token_id = decoder.decoder_start_token_id = text_config.bos_token_id
        decoder.eos_token_id = text_config.eos_token_id
    notes = name_features(model_config, features)
    captions = None
    if caption_vocabulary == "roberta":
        name = roberta_tokenizer or own_tokenizer(words.path, ROBERTA)
        captions = load_roberta_tokenizer(name, vocabulary_size(model_config))
    processor = HeroProcessor(
        tokenizer,
        caption_tokenizer=captions,
        text_encoder="clip",
        max_frames=model_config.max_frames,
        features=model_config.features,
        context_subtitles=1,
    )
    facts = {name: source.facts() for name, source in sources.items()}
    kept = kept_layers(model_config)
    conversion = Conversion(
        model_class=HEADS[0],
        further_classes=HEADS[1:],
        config=model_config,
        tensor_map=_map(text, words, model_config, cross_modal == "random", seed),
        components=[processor, HeroForVideoCaptioning.published_decoding(model_config, processor.caption_tokenizer)],
        flavour="CLIP-Enhanced before training",
        facts={**facts, "config": None if config is None else Path(config).name, "seed": seed},
        notes=notes,
        card={
            "training": "None. CLIP gives its text encoder; RoBERTa gives "
            f"{'the embeddings and the head of the words' if cross_modal == 'random' else of_roberta(words, kept)}; "
            f"all else is random, seed {seed}."
        },
    )
    both = {key: " and ".join(str(fact[key]) for fact in facts.values()) for key in ("file", "sha256")}
    options = {"clip": clip, "roberta": roberta, "features": features, "output-dir": output_dir.name}
    given = [f"--{name}={Path(value).name}" for name, value in options.items() if value is not None]
    command = ["hf-videolang", "init-clip-enhanced", *given]
    return write_model_folder(conversion, output_dir, both, shlex.join(command), push_to_hub)


def fetched(name: str | Path) -> Path:
    """A file or folder; an id of the Hub is fetched."""
    if Path(name).exists():
        return Path(name)
    try:
        return Path(snapshot_download(str(name), allow_patterns=FILES))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise ConversionError(f"{name} is no file or folder, and the Hub does not give it: {error}") from error


def load_clip_tokenizer(name: str | Path, text_config: CLIPTextConfig) -> Any:
    """
    CLIP's tokenizer. Its start and end token become those of the config, which is wrong in older folders.

    Raises:
        ConversionError: it cannot be loaded, or is no CLIP's.
    """
    tokenizer = load_tokenizer(AutoTokenizer, name, CLIP_FILES, "--clip-tokenizer")
    ends, words = tokenizer("")["input_ids"], text_config.vocab_size
    if ends != [words - 2, words - 1]:
        raise ConversionError(
            f"The tokenizer {name} does not fit: to it an empty text is {ends}, to a CLIP of {words} words "
            f"{[words - 2, words - 1]}, start and end. Pass --clip-tokenizer with the model's own."
        )
    text_config.bos_token_id, text_config.eos_token_id = ends
    tokenizer.model_max_length = text_config.max_position_embeddings
    return tokenizer


def _map(text: ClipText, roberta: Roberta, config: Any, is_random: bool, seed: int) -> Any:
    kept = kept_layers(config)

    def origin(name: str) -> Origin | None:
        name = name.removeprefix("hero.")
        if name.startswith("text_model."):
            key, transform = text.origin(name.removeprefix("text_model."))
            return CLIP_KEY + key, transform
        name = name.removeprefix("cross_modal_model.")
        if config.caption_vocabulary != "roberta" and name.startswith(("lm_head.", "caption_words.")):
            return None
        if is_random and name.startswith("encoder."):
            return None
        found = roberta.origin(name, kept)
        return found and (ROBERTA_KEY + found[0], found[1])

    def drop_reason(key: str) -> str | None:
        if key.startswith(CLIP_KEY):
            return text.drop_reason(key.removeprefix(CLIP_KEY))
        name = key.removeprefix(ROBERTA_KEY)
        if is_random and short(name).startswith("encoder."):
            return "the cross-modal BERT starts at random"
        unread = next((why for pattern, why in ROBERTA_UNREAD.items() if re.match(pattern, short(name))), None)
        return roberta.drop_reason(name, kept) or unread

    source = {CLIP_KEY + key: value for key, value in text.values.items()}
    source |= {ROBERTA_KEY + key: value for key, value in roberta.values.values()}
    return map_start(source, config, origin, drop_reason, seed)
