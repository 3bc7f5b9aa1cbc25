"""Mixup and CutMix of pairs, drawn from the pairs' keys."""

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


def test_either_is_drawn_about_as_often_and_for_each_pair():
    model = build(MIXUP, CUTMIX)
    boxes = [model._draw([key], SIDE, SIDE)[0, 2:].any().item() for key in range(400)]
    # CutMix's box is empty at times; five deviations of a fair coin
    assert 120 < sum(boxes) < 250
    together = model._draw(list(range(400)), SIDE, SIDE)
    assert together[:, 2:].any(1).tolist() == boxes


def test_the_share_has_the_beta_distribution_of_mixup():
    from scipy.stats import beta, kstest

    shares = build(MIXUP)._draw(list(range(2000)), SIDE, SIDE)[:, 0].numpy()
    assert kstest(shares, beta(0.8, 0.8).cdf).pvalue > 1e-3


def test_a_partner_is_half_a_batch_away_and_the_pair_shares_its_draw():
    done = build(MIXUP)(batch(), training=True)["data_samples"]["score"]
    shares = done.diagonal()
    assert torch.equal(shares[:2], shares[2:])
    expected = torch.diag(shares) + torch.diag(1 - shares).roll(2, 0)
    assert torch.allclose(done, expected)


def test_an_odd_image_stays_whole():
    whole = batch()
    odd = {
        "inputs": whole["inputs"][:3],
        "data_samples": {k: v[:3] for k, v in whole["data_samples"].items()},
    }
    done = build(MIXUP)(odd, training=True)
    assert done["data_samples"]["score"][2].tolist() == [0, 0, 1, 0]
    assert torch.allclose(done["inputs"][2], torch.tensor(2 / 3))


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_mix_what_one_process_mixes(world):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (16, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 4, (16,), generator=generator)
    keys = torch.randint(0, 2**32, (16,), generator=generator)

    def mixed(part: slice):
        samples = {"label": labels[part], "key": keys[part], "unreadable": []}
        data = {"inputs": images[part], "data_samples": samples}
        return build(MIXUP, CUTMIX)(data, training=True)

    joint = mixed(slice(None))
    for rank in range(world):
        mine = mixed(slice(rank, None, world))
        assert torch.equal(mine["inputs"], joint["inputs"][rank::world])
        theirs = joint["data_samples"]["score"][rank::world]
        assert torch.equal(mine["data_samples"]["score"], theirs)


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


def test_a_config_is_left_as_it_was_and_builds_again():
    mixing = dict(augments=[dict(type="Mixup", alpha=1)], probs=[0.25])
    for _ in range(2):
        model = MixingPreprocessor([0.0], [255.0], mixing, num_classes=4)
        assert model.batch_augments.probs == [0.25, 0.75]
        assert model.batch_augments.augments[0].alpha == 1.0
    assert mixing == dict(augments=[dict(type="Mixup", alpha=1)], probs=[0.25])
    one = MixingPreprocessor([0.0], [255.0], dict(augments=MIXUP, probs=1), num_classes=4)
    assert one.batch_augments.probs == [1.0, 0.0]
    # 0.7 + 0.2 + 0.1 is above 1 by rounding; what is left must not be negative.
    three = dict(augments=[MIXUP] * 3, probs=[0.1, 0.2, 0.7 + 2e-16])
    left = MixingPreprocessor([0.0], [255.0], three, num_classes=4).batch_augments.probs[-1]
    assert left == pytest.approx(0, abs=1e-12) and left >= 0


@pytest.mark.parametrize(
    ("augment", "probs", "told"),
    [
        (dict(type="Mixup", alpha=0), None, "alpha of Mixup is 0; it must be above 0"),
        (dict(type="CutMix", alpha="1"), None, "alpha of CutMix is '1'"),
        (MIXUP, "[0.7,0.5]", "probs is '.0.7,0.5.'; give 1 numbers"),
        (MIXUP, [0.7, 0.5], "each of the 1 augments a probability"),
        (MIXUP, [1.5], "1 at most in all"),
        (MIXUP, [-0.5], "1 at most in all"),
        (MIXUP, [float("nan")], "1 at most in all"),
    ],
)
def test_impossible_numbers_are_refused(augment, probs, told):
    with pytest.raises(ValueError, match=told):
        MixingPreprocessor([0.0], [255.0], dict(augments=[augment], probs=probs), num_classes=4)


def test_another_way_to_mix_is_refused():
    with pytest.raises(ValueError, match="by Mixup and CutMix, not ResizeMix"):
        build(dict(type="ResizeMix", alpha=1.0))
