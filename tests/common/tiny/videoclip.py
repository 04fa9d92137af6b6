"""A VideoCLIP small enough for tests: the real classes, the real tokenizer class, nothing to download."""

from string import ascii_lowercase

import torch
from transformers import BertTokenizer

from hf_videolang.models.videoclip.configuration_videoclip import VideoCLIPConfig
from hf_videolang.models.videoclip.modeling_videoclip import VideoCLIPForTokenClassification, VideoCLIPModel
from tests.common.tiny import s3d

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *ascii_lowercase, *(f"##{c}" for c in ascii_lowercase)]
SECONDS = 6
BERT = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def tiny_config(encoder: str = "separate", with_s3d: bool = False, **changed) -> VideoCLIPConfig:
    """Features of 16 numbers, at most 6 seconds."""
    video = {"num_hidden_layers": 2, "feature_size": 16, "max_video_length": SECONDS}
    video |= {"cls_token_id": 2, "sep_token_id": 3}
    return VideoCLIPConfig(
        text_config=BERT,
        video_config={**BERT, **video},
        s3d_config=s3d.tiny_config() if with_s3d else None,
        encoder=encoder,
        **changed,
    )


def tiny_model(
    encoder: str = "separate", with_s3d: bool = False, head: bool = False, seed: int = 0, **changed
) -> VideoCLIPModel | VideoCLIPForTokenClassification:
    """In eval mode, every parameter random, so that one that is left out shows."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        config = tiny_config(encoder, with_s3d, **changed)
        model = (VideoCLIPForTokenClassification if head else VideoCLIPModel)(config).eval()
        s3d.random_statistics(model)
        for name, parameter in model.named_parameters():
            if "bn" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def tiny_tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={entry: index for index, entry in enumerate(VOCABULARY)})


def tiny_processor(**changed):
    """Of the same sizes as `tiny_model`."""
    from hf_videolang.models.videoclip.processing_videoclip import VideoCLIPProcessor
    from hf_videolang.models.videoclip.video_processing_videoclip import VideoCLIPVideoProcessor

    options = {"size": {"shortest_edge": s3d.SIDE}, "crop_size": {"height": s3d.SIDE, "width": s3d.SIDE}}
    video_processor = VideoCLIPVideoProcessor(**options, frames_per_clip=4, fps=4, max_clips=SECONDS)
    return VideoCLIPProcessor(video_processor, tiny_tokenizer(), max_length=12, **changed)


def tiny_inputs(batch: int = 3, seconds: int = 5, seed: int = 1) -> dict[str, torch.Tensor]:
    """Unit rows and padded random texts, aligned; of the videos, all but the first are shorter."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(batch, seconds, 16, generator=generator)
    lengths = torch.arange(seconds, seconds - batch, -1).clamp(min=1)[:, None]
    words = torch.arange(4, 4 + batch)[:, None]
    input_ids = torch.randint(5, len(VOCABULARY), (batch, 9), generator=generator)
    input_ids[:, 0] = 2
    input_ids[torch.arange(9) == words] = 3
    input_ids[torch.arange(9) > words] = 0
    return {
        "input_ids": input_ids,
        "attention_mask": (torch.arange(9) <= words).long(),
        "video_features": torch.nn.functional.normalize(rows, dim=-1),
        "video_attention_mask": (torch.arange(seconds) < lengths).long(),
    }
