"""Held against torch's own resize, which looks the pixels up one by one."""

import pytest
import torch
from torch.nn.functional import interpolate

from hf_videolang.models.shared.separable_resize import separable_resize

SIZES = [
    ((48, 64), (32, 32)),
    ((20, 24), (32, 40)),
    ((224, 224), (224, 224)),
    ((1, 7), (3, 5)),
    ((301, 3), (17, 9)),
]


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("old", "new"), SIZES, ids=str)
def test_equals_the_resize_of_torch(old, new, mode, antialias):
    image = torch.rand(6, *old, generator=torch.Generator().manual_seed(1))
    channels_first, channels_last = image[:3], image[:3].permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for layout in (channels_first, channels_last, image[::2]):
        resized = separable_resize(layout, *new, mode, antialias)
        expected = interpolate(layout[None], new, mode=mode, antialias=antialias)[0]
        torch.testing.assert_close(resized, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels(channels):
    image = torch.rand(channels, 11, 13, generator=torch.Generator().manual_seed(1))
    expected = interpolate(image[None], (5, 8), mode="bicubic")[0]
    torch.testing.assert_close(separable_resize(image, 5, 8, "bicubic", False), expected, rtol=0, atol=2e-6)
