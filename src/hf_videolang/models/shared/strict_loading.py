"""A checkpoint that lacks a weight raises. It never leaves a part of the model at random values."""

from typing import Any


class StrictLoadingMixin:
    """Makes `from_pretrained` of a model raise when the checkpoint lacks weights. Stands before `PreTrainedModel`."""

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
        if missing := sorted(report["missing_keys"]):
            raise ValueError(
                f"{args[0] if args else 'The checkpoint'} lacks {len(missing)} weights of {cls.__name__}: "
                f"{', '.join(missing)}. Convert the original checkpoint with `hf-videolang convert`, or pass "
                "output_loading_info=True to start the missing weights at their initial values."
            )
        return model


__all__ = ["StrictLoadingMixin"]
