"""Counter-based numbers, masks and stochastic depth."""

from __future__ import annotations

import pytest
import torch

from msn_mm.models.ops.counter_rng import uniform
from msn_mm.models.ops.masking import gather_tokens, num_kept, random_keep
from msn_mm.models.ops.stochastic_depth import KeyedDropPath, draw_gates


def test_uniform_numbers_look_uniform_and_independent():
    keys = torch.arange(4000)  # consecutive keys are the hard case for a hash
    u = uniform(keys, stream=1, n=64)
    assert u.dtype == torch.float32 and u.min() >= 0 and u.max() < 1
    assert u.mean() == pytest.approx(0.5, abs=0.003)
    assert u.var() == pytest.approx(1 / 12, abs=0.001)
    counts = torch.histc(u, bins=100, min=0, max=1)
    expected = u.numel() / 100
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 160  # 99 degrees of freedom: p < 1e-4 beyond
    rows = torch.corrcoef(u[:200])
    columns = torch.corrcoef(u.T)
    for correlation, size in ((rows, 64), (columns, 4000)):
        off = correlation[~torch.eye(len(correlation), dtype=torch.bool)]
        assert off.abs().mean() < 1.2 / size**0.5


def test_uniform_depends_on_the_key_and_stream_alone():
    keys = torch.tensor([7, 2**32 - 1, 12345])
    u = uniform(keys, stream=1, n=10)
    assert torch.equal(u[1], uniform(keys[1:2], stream=1, n=10)[0])
    assert torch.equal(u[:, :4], uniform(keys, stream=1, n=4))
    assert not torch.equal(u, uniform(keys, stream=2, n=10))


@pytest.mark.parametrize(
    ("patches", "ratio", "kept"),
    [(1024, 0.7, 307), (196, 0.15, 166), (196, 0.3, 137), (10, 0.9, 1), (10, 0.7, 3), (4, 0.99, 1)],
)
def test_num_kept_is_the_floor(patches, ratio, kept):
    assert num_kept(patches, ratio) == kept


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5])
def test_num_kept_refuses_an_impossible_ratio(ratio):
    with pytest.raises(ValueError, match="mask_ratio"):
        num_kept(10, ratio)


def test_every_image_has_its_own_uniform_mask():
    keys = torch.arange(3000)
    keep = random_keep(3000, 16, 0.25, keys=keys)
    assert keep.shape == (3000, 12)
    assert (keep.diff(dim=1) > 0).all(), "ascending, hence without repetition"
    share = torch.bincount(keep.flatten(), minlength=16) / 3000
    assert torch.allclose(share, torch.full((16,), 0.75), atol=0.04)
    assert len(torch.unique(keep, dim=0)) > 1200  # of 1,820 possible sets
    assert torch.equal(keep[5:9], random_keep(4, 16, 0.25, keys=keys[5:9]))


def test_gather_tokens_takes_the_named_rows():
    tokens = torch.arange(2 * 5 * 3).reshape(2, 5, 3)
    keep = torch.tensor([[0, 4], [2, 3]])
    assert torch.equal(
        gather_tokens(tokens, keep), torch.stack([tokens[0, [0, 4]], tokens[1, [2, 3]]])
    )


def test_drop_path_keeps_the_mean_and_follows_the_key():
    keys = torch.arange(20_000)
    gates = draw_gates([0.0, 0.1, 0.4], 20_000, keys, torch.device("cpu"))
    assert gates.shape == (3, 20_000)
    assert (gates[0] == 1).all()
    assert (gates[1] == 0).float().mean() == pytest.approx(0.1, abs=0.01)
    assert gates[2].mean() == pytest.approx(1.0, abs=0.02)
    path = KeyedDropPath(0.4)
    path.gate = gates[2]
    x = torch.randn(20_000, 2, 3)
    y = path(x)
    dropped = gates[2] == 0
    assert (y[dropped] == 0).all()
    assert torch.allclose(y[~dropped], x[~dropped] / 0.6)
    assert torch.equal(path.eval()(x), x)
