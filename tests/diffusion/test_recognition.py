"""The numbers about samples, on real digits and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from msn_mm.datasets import Digits
from msn_mm.diffusion.recognition import (
    PixelClassifier,
    nearest_distances,
    recognised,
    variety,
    variety_between_images,
)


def digits(split):
    found = Digits(split, size=8).load_data_list()
    images = np.stack([info["img"] for info in found]).transpose(0, 3, 1, 2)
    return torch.from_numpy(images), np.array([info["gt_label"] for info in found])


def test_real_digits_are_recognised_and_shuffled_ones_are_not():
    images, labels = digits("pretrain")
    others, wanted = digits("test")
    classifier = PixelClassifier(images, labels)
    assert np.mean(classifier.predict(others) == wanted) > 0.95
    samples = torch.stack([others, others], dim=1)
    assert recognised(classifier, samples, wanted) > 95
    shuffled = np.random.default_rng(0).permutation(wanted)
    assert 5 < recognised(classifier, samples, shuffled) < 15


def test_variety_by_hand():
    black, white = torch.zeros(1, 4, 4), torch.full((1, 4, 4), 255.0)
    samples = torch.stack([torch.stack([black, white, white]), torch.stack([black] * 3)]).byte()
    # Of three samples of the first image two pairs of three are 1 apart; of the second none.
    assert variety(samples) == pytest.approx((2 / 3 + 0) / 2)
    assert variety_between_images(samples) == pytest.approx((0 + 1 + 1) / 3)
    with pytest.raises(ValueError, match="needs two"):
        variety(samples[:, :1])


def test_copies_are_found():
    images, _ = digits("pretrain")
    others, _ = digits("test")
    assert nearest_distances(images[:20], images).max() < 1e-6
    real = nearest_distances(others, images)
    assert real.min() > 0.01
    by_hand = ((others[7].double() - images.double()) / 255).square().mean((1, 2, 3)).sqrt().min()
    assert real[7] == pytest.approx(by_hand.item(), abs=1e-6)
