"""The head with which a model writes captions."""

from transformers import PreTrainedModel

from hf_videolang.hub.loading import class_with_head, load_class

CAPTION_HEAD = "ForVideoCaptioning"


def with_caption_head(model: PreTrainedModel) -> tuple[PreTrainedModel, str]:
    """
    The model with a head for captions. What its folder lacks of the head starts new: torch's random generator decides
    it. The words' head of pre-training, where the folder has one, is kept.

    Returns:
        The same model, if it has this head; and a note for the user if the head is new.

    Raises:
        ValueError: no model of its family writes captions.

    Example:
        >>> model, note = with_caption_head(load_model("org/hero-tv-ht100"))
    """
    head_class = class_with_head(model, CAPTION_HEAD)
    if head_class is None:
        raise ValueError(f"{model.name_or_path} is a {type(model).__name__}, whose system writes no captions.")
    if isinstance(model, head_class):
        return model, ""
    new = load_class(head_class, str(model.name_or_path), new_head=True, config=model.config)
    return new.eval(), "note: the head for captions is new."
