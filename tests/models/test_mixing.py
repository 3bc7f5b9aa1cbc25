"""Mixup and CutMix, drawn from the batch's key."""

from __future__ import annotations

import pytest
import torch

from msn_mm.models.preprocessors.mixing import MixingPreprocessor

MIXUP, CUTMIX = dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)
SIDE = 8


def build(*augments, **settings) -> MixingPreprocessor:
    augments = dict(augments=list(augments)) if augments else None
    return MixingPreprocessor([0.0], [255.0], augments, num_classes=4, **settings)


def batch(first: int = 0):
    """Four flat images, each of its own class and grey level."""
    grey = torch.tensor([0, 85, 170, 255], dtype=torch.uint8)
    images = grey.view(4, 1, 1, 1).expand(4, 1, SIDE, SIDE).contiguous()
    samples = {"label": torch.arange(4), "key": torch.arange(first, first + 4), "unreadable": []}
    return {"inputs": images, "data_samples": samples}


def of_scores(score: torch.Tensor) -> torch.Tensor:
    """The mean grey that an image has whose labels are mixed like this."""
    return score @ torch.tensor([0.0, 1 / 3, 2 / 3, 1.0])


@pytest.mark.parametrize("augment", [MIXUP, CUTMIX])
def test_labels_are_mixed_as_pixels_are(augment):
    shares = []
    for first in range(20):
        done = build(augment)(batch(first), training=True)
        score = done["data_samples"]["score"]
        assert torch.allclose(score.sum(1), torch.ones(4), atol=1e-6)
        assert torch.allclose(done["inputs"].mean((1, 2, 3)), of_scores(score), atol=1e-5)
        assert torch.equal(done["data_samples"]["label"], torch.arange(4))
        flat = (done["inputs"].flatten(1).std(1) < 1e-6).all()
        assert flat or augment is CUTMIX, "mixup blends whole images"
        shares.append(score.max(1).values.min().item())
    assert min(shares) < 0.7


def test_either_is_drawn_about_as_often():
    whole = 0
    for first in range(200):
        done = build(MIXUP, CUTMIX)(batch(first), training=True)
        blended = (done["inputs"] * 3 % 1).sub(0.5).abs().sub(0.5).abs() > 1e-3
        whole += bool(blended.any())
    # Mixup's ratio is so near 0 or 1 at times that nothing shows; five deviations
    assert 60 < whole < 140


def test_draws_follow_the_key_alone():
    state = torch.get_rng_state()
    one = build(MIXUP, CUTMIX)(batch(3), training=True)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(9)
    same = build(MIXUP, CUTMIX)(batch(3), training=True)
    other = build(MIXUP, CUTMIX)(batch(4), training=True)
    assert torch.equal(one["inputs"], same["inputs"])
    assert not torch.equal(one["data_samples"]["score"], other["data_samples"]["score"])


def test_validation_and_no_augments_leave_images_alone():
    for model, training in ((build(MIXUP), False), (build(), True)):
        done = model(batch(), training=training)
        assert "score" not in done["data_samples"]
        assert torch.allclose(done["inputs"][:, 0, 0, 0], torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]))


def test_mixing_needs_the_number_of_classes():
    with pytest.raises(ValueError, match="num_classes is needed"):
        MixingPreprocessor([0.0], [1.0], dict(augments=[MIXUP]))
