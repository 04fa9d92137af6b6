"""An evaluation entered into the card of a model, in a folder or on the Hub."""

from pathlib import Path
from typing import cast

from huggingface_hub import HfApi, ModelCard, ModelCardData
from yaml import YAMLError

from hf_videolang.atomic_files import atomic_file
from hf_videolang.hub.evaluation_results import add_evaluation
from hf_videolang.hub.model_card import write_model_card


def load_card(model: str | Path) -> ModelCard | None:
    """
    The card of a folder, `None` if it has none, or of a Hub repository.

    Raises:
        ValueError: the card's metadata cannot be read.
        OSError: there is no such repository, or it has no card.
    """
    readme = Path(model) / "README.md"
    local = Path(model).is_dir()
    if local and not readme.exists():
        return None
    try:
        return ModelCard.load(readme if local else str(model))
    except (ValueError, YAMLError) as error:
        card = readme if local else f"the card of {model}"
        raise ValueError(f"{card} has metadata that cannot be read; mend them: {error}") from error


def write_evaluation(model: str | Path, **evaluation) -> None:
    """
    [`add_evaluation`] to the card of a model: of a folder (a card is written if there is none), or of a Hub
    repository, to which the changed card is pushed.

    Args:
        model: folder or repository id.
        evaluation: the arguments of [`add_evaluation`] but the card.

    Errors are those of [`load_card`] and [`add_evaluation`].
    """
    local = Path(model).is_dir()
    card = load_card(model) or ModelCard.load(write_model_card(model))
    data = cast(ModelCardData, card.data)
    if data.model_name is None:
        data.model_name = Path(model).resolve().name if local else str(model).split("/")[-1]
    add_evaluation(card, **evaluation)
    if local:
        with atomic_file(Path(model) / "README.md") as temporary:
            card.save(temporary)
    else:
        HfApi().upload_file(
            path_or_fileobj=str(card).encode(),
            path_in_repo="README.md",
            repo_id=str(model),
            commit_message="Add evaluation results",
        )
