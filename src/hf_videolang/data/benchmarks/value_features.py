"""The features that the VALUE benchmark hands out (hero §1, §7.4): names, models, frames and widths."""

from dataclasses import dataclass

SECONDS_PER_FEATURE = 1.5


@dataclass(frozen=True)
class ValueFeature:
    """
    What one extractor made.

    Args:
        model: which network, in words; `None` if unknown.
        frames: what it saw of each interval, in words; `None` if unknown.
        width: numbers of a row.
    """

    model: str | None
    frames: str | None
    width: int


_MIDDLE = "the one in the middle of each 1.5 s"
_CLIP = "32 of the 45 in each 1.5 s at 30 a second, 224x224"
VALUE_FEATURES = {
    "resnet": ValueFeature("ResNet-152 (ImageNet)", f"{_MIDDLE}, shorter side 224", 2048),
    "clip-vit": ValueFeature("CLIP ViT-B/32", f"{_MIDDLE}, 224x224", 512),
    "slowfast": ValueFeature("SlowFast-R50 8x8 (Kinetics-400)", _CLIP, 2304),
    "mil-nce": ValueFeature("S3D (MIL-NCE)", _CLIP, 1024),
}
FOLDERS = {"mil-nce-s3d": "mil-nce"}  # where the folder of the files has another name than the features


# Names joined by _ stand side by side in a row.
_NAMES = (*VALUE_FEATURES, "resnet_slowfast", "clip-vit_slowfast", "resnet_mil-nce", "clip-vit_mil-nce")
WIDTHS = {name: sum(VALUE_FEATURES[one].width for one in name.split("_")) for name in _NAMES}
