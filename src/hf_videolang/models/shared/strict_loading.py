"""A checkpoint that lacks a weight raises. It never leaves a part of the model at random values."""

import re
from typing import Any, ClassVar


class StrictLoadingMixin:
    """Makes `from_pretrained` of a model raise when the checkpoint lacks weights. Stands before `PreTrainedModel`."""

    # Patterns of the weights of a task's head. A base model lacks them; they then start random, with a warning.
    _keys_that_may_be_new: ClassVar[list[str]] = []

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any):
        """
        Load a model as transformers does, but raise when weights are missing.

        Args:
            output_loading_info (`bool`, defaults to `False`): `True` also returns the loading report and does not
                raise. Missing weights then get their initial values and stand in the report's `missing_keys`.

        Raises:
            ValueError: the checkpoint lacks weights; the message lists them.

        ```python
        model, report = CLIPViPModel.from_pretrained(folder, output_loading_info=True)
        ```
        """
        model, report = super().from_pretrained(*args, output_loading_info=True, **kwargs)  # type: ignore[misc]
        if output_loading_info:
            return model, report
        may_be_new = re.compile("|".join(cls._keys_that_may_be_new) or r"(?!)")
        if missing := sorted(key for key in report["missing_keys"] if not may_be_new.search(key)):
            raise ValueError(
                f"{args[0] if args else 'The checkpoint'} lacks {len(missing)} weights of {cls.__name__}: "
                f"{', '.join(missing)}. Convert the original checkpoint with `hf-videolang convert`, or pass "
                "output_loading_info=True to start the missing weights at their initial values."
            )
        return model


__all__ = ["StrictLoadingMixin"]
