"""A checkpoint that lacks a weight raises. It never leaves a part of the model at random values."""

import re
from typing import Any, ClassVar


class StrictLoadingMixin:
    """Makes `from_pretrained` of a model raise when the checkpoint lacks weights. Stands before `PreTrainedModel`."""

    # Patterns of the weights of a task's head. A base model lacks them; they then start random, with a warning.
    _keys_that_may_be_new: ClassVar[list[str]] = []
    _new_head_by_default: ClassVar[bool] = True

    @classmethod
    def from_pretrained(
        cls, *args: Any, output_loading_info: bool = False, new_head: bool | None = None, **kwargs: Any
    ):
        """
        Load a model as transformers does, but raise when weights are missing.

        Args:
            output_loading_info (`bool`, defaults to `False`): `True` also returns the loading report and does not
                raise. Missing weights then get their initial values and stand in the report's `missing_keys`.
            new_head (`bool`, *optional*): whether the head of the task may be missing; it then starts at its initial
                values, with a warning. By default, the class decides.

        Raises:
            ValueError: the checkpoint lacks weights; the message lists them.

        ```python
        model, report = CLIPViPModel.from_pretrained(folder, output_loading_info=True)
        ```
        """
        model, report = super().from_pretrained(*args, output_loading_info=True, **kwargs)  # type: ignore[misc]
        if output_loading_info:
            return model, report
        head = re.compile("|".join(cls._keys_that_may_be_new) or r"(?!)")
        if new_head or (new_head is None and cls._new_head_by_default):
            missing = sorted(key for key in report["missing_keys"] if not head.search(key))
        else:
            missing = sorted(report["missing_keys"])
        if missing:
            option = "new_head=True" if all(map(head.search, missing)) else "output_loading_info=True"
            raise ValueError(
                f"{args[0] if args else 'The checkpoint'} lacks {len(missing)} weights of {cls.__name__}: "
                f"{', '.join(missing)}. Convert the original checkpoint with `hf-videolang convert`, or pass "
                f"{option} to start the missing weights at their initial values."
            )
        return model
