"""Configuration of S3D as trained by MIL-NCE (arXiv 1912.06430): a video network and a text module of single words."""

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

from hf_videolang.models.shared.remote_code import RemoteCodeMixin

BLOCKS = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")


@strict
class S3DConfig(RemoteCodeMixin, PreTrainedConfig):
    """
    S3D and its text module (s3d §1, §2). Defaults are those of the HowTo100M weights.

    Args:
        stem_channels (`list[int]`, defaults to `[64, 192]`): channels of `conv1` and `conv_2b`, and of `conv_2c`.
        block_channels (`list[list[int]]`): channels of the nine inception blocks, from 3b to 5c. A block has six: of
            branch 0, of the two steps of branches 1 and 2, and of branch 3.
        projection_dim (`int`, defaults to 512): width of the embedding space of videos and texts.
        frames_per_clip (`int`, defaults to 30): frames that become one row of features. VideoCLIP reads one second at
            30 frames a second. The authors of the weights trained with 32 frames at about 10 a second.
        clips_per_chunk (`int`, defaults to 4): clips that pass the network together. It bounds memory and changes no
            result.
        vocab_size, word_embed_dim, text_hidden_size (`int`, default to 66250, 300, 2048): the text module's word
            table, the width of a word, and the width of its hidden layer.
        max_words (`int`, defaults to 16): positions of a text. Empty ones count: they hold `pad_token_id`.
        pad_token_id (`int`, defaults to 0): row of the word table for empty positions, an ordinary trained row.
        initializer_range (`float`, defaults to 0.02): standard deviation of new linear and word weights.

    ```python
    model = S3DModel(S3DConfig())
    ```
    """

    model_type = "s3d"
    auto_map = {
        "AutoConfig": "configuration_s3d.S3DConfig",
        "AutoModel": "modeling_s3d.S3DModel",
        "AutoVideoProcessor": "video_processing_s3d.S3DVideoProcessor",
        "AutoProcessor": "processing_s3d.S3DProcessor",
    }

    attribute_map = {"max_position_embeddings": "max_words"}  # what limits the length of a text

    stem_channels: list[int] | tuple[int, ...] = (64, 192)
    block_channels: list[list[int]] | tuple[tuple[int, ...], ...] = (
        (64, 96, 128, 16, 32, 32),
        (128, 128, 192, 32, 96, 64),
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
        (256, 160, 320, 32, 128, 128),
        (384, 192, 384, 48, 128, 128),
    )
    projection_dim: int = 512
    frames_per_clip: int = 30
    clips_per_chunk: int = 4
    vocab_size: int = 66250
    word_embed_dim: int = 300
    text_hidden_size: int = 2048
    max_words: int = 16
    pad_token_id: int | None = 0
    initializer_range: float | int = 0.02

    @property
    def hidden_size(self) -> int:
        """Channels of the last block, the width of the pooled video."""
        b0, _, b1, _, b2, b3 = self.block_channels[-1]
        return b0 + b1 + b2 + b3

    def validate_architecture(self):
        if len(self.stem_channels) != 2 or [len(block) for block in self.block_channels] != [6] * len(BLOCKS):
            raise ValueError(
                f"stem_channels has {len(self.stem_channels)} numbers and block_channels "
                f"{[len(block) for block in self.block_channels]}; expected 2, and 6 for each of {len(BLOCKS)} blocks."
            )
        if self.frames_per_clip < 2 or self.frames_per_clip % 2:
            raise ValueError(f"frames_per_clip is {self.frames_per_clip}; expected an even number of frames.")


__all__ = ["S3DConfig"]
