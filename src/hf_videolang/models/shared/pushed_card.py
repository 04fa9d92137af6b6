"""`push_to_hub` of a model or a processor brings the family's card."""

from importlib import import_module
from typing import Any


class PushedCardMixin:
    """Writes the card of the family where transformers would push an empty one. Stands before transformers' class."""

    def _upload_modified_files(self, working_dir, repo_id: str, *args: Any, **kwargs: Any):
        try:
            # By name, so that the code saved with a model does not bring the code of the cards along.
            cards = import_module("hf_videolang.hub.model_card")
        except ModuleNotFoundError:  # the saved code, on a machine without the package
            cards = None
        if cards is not None:
            cards.write_pushed_card(working_dir, repo_id, kwargs.get("token"))
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)  # type: ignore[misc]
