"""A sample depends on its representation, its id and the seed, and on nothing else."""

from __future__ import annotations

import pytest
import torch

from msn_mm.datasets.keys import SampleKey
from msn_mm.diffusion.conditional_norm import ConditionalGroupNorm
from msn_mm.diffusion.names import SAMPLERS
from msn_mm.diffusion.recognition import untrained_conditioning
from msn_mm.diffusion.sampling import SampleId, Sampler, draw_samples
from msn_mm.errors import UserError
from tests.diffusion.tiny import tiny_rcdm, view


@pytest.fixture(scope="module")
def model():
    return tiny_rcdm()


@pytest.fixture(scope="module")
def drawn(model):
    """Seven samples: of three images two each, and of the first a third."""
    conditions = model.represent(view(3)["image"]["images"])
    ids = [SampleId(image, number) for image in range(3) for number in range(2)]
    ids.append(SampleId(0, 2))
    rows = conditions[[one.image for one in ids]]
    return rows, ids


@pytest.mark.parametrize("name", SAMPLERS)
def test_batch_size_and_company_change_no_sample(model, drawn, name):
    rows, ids = drawn
    sampler = Sampler(name, 3)
    whole = draw_samples(model, rows, ids, sampler, batch_size=64)
    assert whole.shape == (7, 1, 8, 8) and whole.dtype == torch.uint8
    assert whole.float().std() > 10
    for size in (1, 4):
        assert torch.equal(draw_samples(model, rows, ids, sampler, batch_size=size), whole)
    chosen = [5, 3, 6]
    alone = draw_samples(model, rows[chosen], [ids[i] for i in chosen], sampler, batch_size=2)
    assert torch.equal(alone, whole[chosen])
    torch.manual_seed(99)
    assert torch.equal(draw_samples(model, rows, ids, sampler), whole)
    assert not torch.equal(draw_samples(model, rows, ids, sampler, seed=1), whole)


def test_numbers_before_rounding_are_equal_to_the_last_bit(model, drawn):
    from msn_mm.diffusion import sampling

    rows, ids = drawn
    found = []
    for size in (7, 4):
        parts = []
        for start in range(0, len(ids), size):
            generators = [sampling._generator(0, one) for one in ids[start : start + size]]
            noise = sampling._noise(model, generators)
            parts.append(
                sampling._denoised(
                    model, rows[start : start + size], noise, generators, Sampler("ddpm", 3), False
                )
            )
        found.append(torch.cat(parts).detach())
    assert torch.equal(*found)


def test_samples_of_one_image_differ_and_images_differ(model, drawn):
    rows, ids = drawn
    found = draw_samples(model, rows, ids, Sampler("ddim", 3)).float()
    assert (found[0] - found[1]).abs().mean() > 1, "another number, another noise"
    elsewhere = draw_samples(model, rows[:1], [SampleId(1, 0)], Sampler("ddim", 3)).float()
    assert (found[:1] - elsewhere).abs().mean() > 1, "another image, another noise"
    same_noise = [SampleId(0, 0)] * 3
    by_condition = draw_samples(model, rows[:6:2], same_noise, Sampler("ddim", 3)).float()
    assert (by_condition[0] - by_condition[1]).abs().mean() > 0.1, "another representation"
    with untrained_conditioning(model):
        deaf = draw_samples(model, rows[:6:2], same_noise, Sampler("ddim", 3))
    assert all(torch.equal(one, deaf[0]) for one in deaf)
    again = draw_samples(model, rows[:6:2], same_noise, Sampler("ddim", 3)).float()
    assert torch.equal(again, by_condition), "the weights are back"


def test_the_moving_average_draws(model, drawn):
    rows, ids = drawn
    before = draw_samples(model, rows[:2], ids[:2], Sampler("ddim", 3))
    other = tiny_rcdm()
    with torch.no_grad():
        for parameter in other.unet.parameters():
            parameter.zero_()
    assert torch.equal(draw_samples(other, rows[:2], ids[:2], Sampler("ddim", 3)), before)
    for module in other.ema_unet.modules():
        if isinstance(module, ConditionalGroupNorm):
            module.affine.weight.data.mul_(2)
    assert not torch.equal(draw_samples(other, rows[:2], ids[:2], Sampler("ddim", 3)), before)


def test_full_schedule_by_hand(model, drawn):
    """All 20 ancestral steps against the formulas, with the learned variance."""
    rows, ids = drawn
    rows, ids = rows[:1], ids[:1]
    schedule = model.schedule
    generator = torch.Generator().manual_seed(SampleKey(0, seed=0, epoch=0).view_key(0))
    x = torch.randn((1, 1, 8, 8), generator=generator)
    with torch.no_grad():
        for t in reversed(range(schedule.num_steps)):
            step = torch.tensor([t])
            output = model.ema_unet(x, step, rows)
            clean = x - schedule.noise_weight[t].float() * output[:, :1]
            clean = (clean / schedule.clean_weight[t].float()).clamp(-1, 1)
            x = (
                schedule.posterior_clean[t].float() * clean
                + schedule.posterior_noisy[t].float() * x
            )
            if t:
                share = (output[:, 1:] + 1) / 2
                log = share * schedule.log_largest[t] + (1 - share) * schedule.log_smallest[t]
                x = x + (0.5 * log).exp().float() * torch.randn((1, 1, 8, 8), generator=generator)
    expected = ((x.clamp(-1, 1) + 1) * 127.5).round()
    found = draw_samples(model, rows, ids, Sampler("ddpm", 20)).float()
    assert (found - expected).abs().max() <= 1


def test_impossible_sampling_is_refused(model, drawn):
    rows, ids = drawn
    with pytest.raises(UserError, match="21 steps are more than the 20 of the training"):
        draw_samples(model, rows, ids, Sampler("ddim", 21))
    with pytest.raises(UserError, match=r"'ddin'\. Did you mean 'ddim'"):
        Sampler("ddin")
    with pytest.raises(UserError, match="steps is 0"):
        Sampler("ddim", 0)
    with pytest.raises(UserError, match="has 20 numbers and this RCDM was trained with 24"):
        draw_samples(model, rows[:, :20], ids, Sampler("ddim", 2))
    assert len(draw_samples(model, rows[:0], [])) == 0
