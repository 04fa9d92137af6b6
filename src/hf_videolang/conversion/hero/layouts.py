"""How HERO names its tensors (hero §10), seen from the model's own names."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from hf_videolang.conversion.tensor_map import Origin, as_is

# The model's names → the original's; the rest of a name is the same.
NAMES = {
    r"cross_modal_model\.embeddings\.": "v_encoder.f_encoder.embeddings.",
    r"cross_modal_model\.frame_embeddings\.feature_LayerNorm\.": "v_encoder.f_encoder.img_embeddings.img_LayerNorm.",
    r"cross_modal_model\.frame_embeddings\.dense\.": "v_encoder.f_encoder.img_embeddings.img_linear.",
    r"cross_modal_model\.frame_embeddings\.": "v_encoder.f_encoder.img_embeddings.",
    r"cross_modal_model\.encoder\.": "v_encoder.f_encoder.encoder.",
    r"(?:fusion\.)?frame_transform\.dense\.": "v_encoder.frame_transform.net.1.",
    r"(?:fusion\.)?frame_transform\.LayerNorm\.": "v_encoder.frame_transform.LayerNorm.",
    r"fusion\.subtitle_transform\.dense\.": "v_encoder.sub_transform.net.1.",
    r"fusion\.subtitle_transform\.LayerNorm\.": "v_encoder.sub_transform.LayerNorm.",
    r"fusion\.joint_transform\.dense\.": "v_encoder.video_sub_feature_transform.net.1.",
    r"fusion\.joint_transform\.LayerNorm\.": "v_encoder.video_sub_feature_transform.LayerNorm.",
    r"fusion\.frame_embeddings\.feature_LayerNorm\.": "v_encoder.frame_embeddings.img_LayerNorm.",
    r"fusion\.frame_embeddings\.dense\.": "v_encoder.frame_embeddings.img_linear.",
    r"fusion\.frame_embeddings\.": "v_encoder.frame_embeddings.",
    r"fusion\.subtitle_embeddings\.": "v_encoder.sub_embeddings.",
    r"temporal_model\.": "v_encoder.c_encoder.",
    r"query_model\.projection\.dense\.": "q_feat_attn.query_input_proj.net.1.",
    r"query_model\.projection\.LayerNorm\.": "q_feat_attn.query_input_proj.LayerNorm.",
    r"query_model\.embeddings\.": "q_feat_attn.query_pos_embed.",
    r"query_model\.attention\.": "q_feat_attn.query_self_attention.",
    r"query_model\.pooling\.": "q_feat_attn.modular_vector_mapping.",
    r"query_projection\.": "video_query_linear.",
    r"start_predictor\.": "video_st_predictor.",
    r"end_predictor\.": "video_ed_predictor.",
    r"answer_pool\.": "qa_pool.",
    r"answer_head\.linear(?=\d)": "qa_pred_head.linear_",
    r"answer_head\.": "qa_pred_head.",
    r"span_pool\.": "st_ed_pool.",
    r"span_head\.linear(?=\d)": "st_ed_pred_head.linear_",
    r"span_head\.": "st_ed_pred_head.",
    r"caption_decoder\.position_embeddings\.": "position_embeddings.",
    r"caption_decoder\.LayerNorm\.": "emb_LayerNorm.",
    r"caption_decoder\.encoder\.": "decoder.",
    r"lm_head\.decoder\.bias": "v_encoder.f_encoder.lm_head.bias",
    r"lm_head\.": "v_encoder.f_encoder.lm_head.",
}
# Parts of a layer of the decoder.
DECODER = {
    "attention.self": "self_attention",
    "attention.output": "add_norm_1",
    "crossattention.self": "dec_enc_attention",
    "crossattention.output": "add_norm_2",
    "intermediate": "intermidiate",
    "output": "add_norm_3",
}
# VIOLIN's head in the first release.
VIOLIN = {"qa_pool.": "violin_pool.", "qa_pred_head.": "violin_pred_head."}
TIED = "v_encoder.f_encoder.embeddings.word_embeddings.weight", "v_encoder.f_encoder.lm_head.decoder.weight"
PADS = ("v_encoder.pad", "v_encoder.f_encoder.pad")  # constants 0
ONE_HOTS = ("loss_func.one_hot", "caption_loss_func.one_hot")
TRIANGLE = "decoder.tri_mask"
DROPPED = {
    r"^v_encoder\.([fc]_encoder\.)?pad$": "constant 0",
    r"^decoder\.tri_mask$": "constant: which words come later",
    r"\.?(caption_)?loss_func\.one_hot$": "constant of the label smoothing",
    r"^v_encoder\.[fc]_encoder\.pooler\.": "no task reads the pooler",
    r"^v_encoder\.f_encoder\.lm_head\.decoder\.weight$": "equal to the word embeddings",
    r"^v_encoder\.(feat_regress|mask_embedding|fom_output)\.": "pre-training has no class yet",
    r"^v_encoder\.(f_encoder\.img|frame)_embeddings\.mask_embedding\.": "pre-training has no class yet",
    r"^v_encoder\.sub_embeddings\.word_embeddings\.": "the fusion gives vectors of subtitles, not words, to it",
    r"^vocab_padded$": "whether the vocabulary was filled up to a multiple of 8",
}
# What a fusion has from HERO and does not read.
UNREAD = {
    "cross_modal": (),
    "sum": ("v_encoder.f_encoder.img_embeddings.",),
    "concatenation": ("v_encoder.f_encoder.img_embeddings.",),
    "sequence": (
        "v_encoder.f_encoder.img_embeddings.",
        "v_encoder.frame_transform.",
        "v_encoder.c_encoder.embeddings.",
    ),
}


@dataclass(frozen=True)
class Layout:
    """
    The heads that a checkpoint has.

    Args:
        retrieval, multiple_choice, statements, captions: whether the head of the task is there.
        words: whether the head of the words is there, which captions share with pre-training.
        is_first_violin: whether the head for statements has the names of the first release.
        fusion: of the encoder, as the model's config has it.
    """

    retrieval: bool
    multiple_choice: bool
    statements: bool
    captions: bool
    words: bool
    is_first_violin: bool
    fusion: str

    @property
    def flavour(self) -> str:
        """In words."""
        has = {"retrieval": self.retrieval, "multiple choice": self.multiple_choice, "captions": self.captions}
        has["statements"] = self.statements and not self.multiple_choice
        heads = " and ".join(name for name, there in has.items() if there) or "no head"
        return heads if self.fusion == "cross_modal" else f"{heads}, fusion by {self.fusion}"

    def origin(self, name: str) -> Origin:
        """Source key for one of the model's names."""
        name = name.removeprefix("hero.")
        pattern = next(pattern for pattern in NAMES if re.match(pattern, name))
        key = re.sub(f"^{pattern}", NAMES[pattern], name)
        if parts := re.fullmatch(r"(decoder\.layer\.\d+)\.(.+)\.(\w+\.\w+)", key):
            layer, part, weight = parts.groups()
            key = f"{layer}.{DECODER[part]}.{weight}"
        if self.is_first_violin:
            for theirs, first in VIOLIN.items():
                key = f"{first}{key.removeprefix(theirs)}" if key.startswith(theirs) else key
        return key, as_is

    def drop_reason(self, key: str) -> str | None:
        """Why the model does without a key of the source, or `None`."""
        if key.startswith(UNREAD[self.fusion]):
            return f"fusion by {self.fusion} does not read it"
        return next((why for pattern, why in DROPPED.items() if re.search(pattern, key)), None)


def find_layout(keys: Collection[str]) -> Layout | None:
    """The layout with such keys, `None` if they are not HERO's."""

    def has(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in keys)

    if not (has("v_encoder.f_encoder.img_embeddings.") and has("v_encoder.c_encoder.")):
        return None
    first = has("violin_pool.")
    fusion = "cross_modal"
    if has("v_encoder.sub_embeddings."):
        fusion = "sequence"
    elif has("v_encoder.sub_transform."):
        fusion = "concatenation" if has("v_encoder.video_sub_feature_transform.") else "sum"
    return Layout(
        retrieval=has("q_feat_attn."),
        multiple_choice=has("st_ed_pool."),
        statements=has("qa_pool.") or first,
        captions=has("decoder.layer."),
        words=has("v_encoder.f_encoder.lm_head."),
        is_first_violin=first,
        fusion=fusion,
    )
