"""RandAugment(9, 0.5): mmpretrain's operations, on the channels that images here have."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from msn_mm.datasets import LabelledCrop, RandAugmentRGB, SampleKey
from msn_mm.registry import TRANSFORMS

OPERATIONS = 15


def pixels(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 24, channels), dtype=np.uint8)


def only(kind: str, **settings) -> RandAugmentRGB:
    return RandAugmentRGB(policies=[dict(type=kind, prob=1.0, **settings)], num_policies=1)


@pytest.mark.parametrize(("kind", "enhancer"), [("ColorTransform", ImageEnhance.Color)])
def test_colours_weigh_as_in_rgb(kind, enhancer):
    image = pixels()
    image[..., 0] = 250  # a red image has another luminance than a blue one
    expected = np.asarray(enhancer(Image.fromarray(image)).enhance(0.0))
    shown = only(kind, magnitude=-1.0, random_negative_prob=0.0)({"img": image})["img"]
    assert np.abs(shown.astype(int) - expected).max() <= 1
    turned = TRANSFORMS.build(dict(type=kind, magnitude=-1.0, prob=1.0, random_negative_prob=0.0))
    as_it_was = turned({"img": image.copy()})["img"]
    assert np.abs(as_it_was.astype(int) - expected).max() > 10, "mmpretrain's now reads RGB"


@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_keeps_shape_and_type(channels):
    policies = RandAugmentRGB().augment.policies
    assert len(policies) == OPERATIONS
    np.random.seed(0)  # noqa: NPY002  (what mmpretrain draws from)
    for policy in policies:
        settings = {k: v for k, v in policy.items() if k not in ("pad_val", "interpolation")}
        augment = RandAugmentRGB(policies=[{**settings, "prob": 1.0}], num_policies=1)
        image = pixels(channels)
        shown = augment({"img": image})["img"]
        assert shown.shape == image.shape and shown.dtype == np.uint8
        assert shown.flags.c_contiguous
        assert np.array_equal(image, pixels(channels)), "the source is left alone"


def test_uncovered_corners_are_filled_in_rgb():
    move = dict(magnitude=0.5, random_negative_prob=0.0, direction="horizontal")
    policy = dict(type="Translate", prob=1.0, **move)
    augment = RandAugmentRGB(policies=[policy], num_policies=1, pad_val=(1, 2, 3))
    shown = augment({"img": np.full((8, 8, 3), 200, np.uint8)})["img"]
    assert sorted(map(tuple, np.unique(shown.reshape(-1, 3), axis=0))) == [
        (1, 2, 3),
        (200, 200, 200),
    ]


def test_magnitudes_are_nine_and_a_half():
    augment = RandAugmentRGB().augment
    assert (augment.num_policies, augment.magnitude_level, augment.magnitude_std) == (2, 9, 0.5)
    assert augment.total_level == 10
    rotate = next(t for t in augment.transforms if type(t).__name__ == "Rotate")
    np.random.seed(0)  # noqa: NPY002  (what mmpretrain draws from)
    drawn = np.array([rotate.random_magnitude() for _ in range(2000)])
    # N(9, 0.5) of 10, of 30 degrees; what lies beyond 10 is cut off
    assert drawn.mean() == pytest.approx(27.0, abs=0.2)
    assert drawn.std() == pytest.approx(1.5, abs=0.15)
    assert all(t.prob == 0.5 for t in augment.transforms)


def test_draws_follow_the_key():
    crop = LabelledCrop(size=24, augment=[dict(type="RandAugmentRGB")])
    image = pixels()
    views = [crop({"img": image, "key": SampleKey(3, seed=1, epoch=e)}) for e in (0, 0, 1)]
    assert (views[0] == views[1]).all() and (views[0] != views[2]).any()


def test_other_channels_are_refused():
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        RandAugmentRGB()({"img": pixels(2)})
