"""View operations: the numbers drawn, and the pixels against torchvision's functions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as V

from msn_mm.datasets import SampleKey
from msn_mm.datasets.view_ops.base import ViewOp
from msn_mm.datasets.view_ops.blur import GaussianBlur
from msn_mm.datasets.view_ops.colour import ColorJitter, Grayscale, shift_hue
from msn_mm.datasets.view_ops.geometry import HorizontalFlip, Rotation, Shear
from msn_mm.datasets.view_ops.solarize import Solarize

ADJUST = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation, V.adjust_hue)


def images(n: int = 6, channels: int = 3, side: int = 24) -> torch.Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0))


def draws(op: ViewOp, n: int = 4000) -> np.ndarray:
    out = np.stack([op.draw(SampleKey(i).generator(0)) for i in range(n)])
    assert out.dtype == np.float32 and out.shape == (n, op.width)
    return out


# ---- pixels ---------------------------------------------------------------


def test_jitter_equals_torchvision_for_every_order() -> None:
    orders = list(itertools.permutations(range(4)))
    x = images(len(orders))
    rng = np.random.default_rng(0)
    factors = rng.uniform([0.2, 0.2, 0.2, -0.5], [1.8, 1.8, 1.8, 0.5], (len(orders), 4))
    params = torch.from_numpy(np.hstack([orders, factors]).astype(np.float32))
    got = ColorJitter.apply(x.clone(), params)
    for row, order in enumerate(orders):
        want = x[row]
        for k in order:
            want = ADJUST[k](want, float(params[row, 4 + k]))
        torch.testing.assert_close(got[row], want, rtol=0, atol=2e-5)


def test_jitter_leaves_rows_that_did_not_draw_it_bitwise() -> None:
    x = images(4)
    params = torch.tensor([[0, 1, 2, 3, 1, 1, 1, 0], [3, 2, 1, 0, 1.5, 0.5, 1.2, 0.1]] * 2)
    got = ColorJitter.apply(x.clone(), params.float())
    assert torch.equal(got[[0, 2]], x[[0, 2]])
    assert not torch.equal(got[1], x[1])


def test_a_row_does_not_depend_on_its_batch() -> None:
    x = images(6)
    rng = SampleKey(0).generator(0)
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.1)
    for op in (jitter, Grayscale(0.5), GaussianBlur(0.5), Rotation(30), Solarize(0.5)):
        params = torch.from_numpy(np.stack([op.draw(rng) for _ in range(6)]))
        together = op.apply(x.clone(), params)
        for row in range(6):
            alone = op.apply(x[row : row + 1].clone(), params[row : row + 1])
            torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-6)


def test_hue_of_extreme_colours() -> None:
    corners = torch.tensor(list(itertools.product([0.0, 0.5, 1.0], repeat=3)))
    x = corners.T.reshape(1, 3, 27, 1).expand(5, -1, -1, 27).contiguous()
    shift = torch.tensor([-0.5, -0.2, 0.0, 0.3, 0.5])
    got = shift_hue(x, shift)
    for row in range(5):
        want = V.adjust_hue(x[row], float(shift[row]))
        torch.testing.assert_close(got[row], want, rtol=0, atol=2e-5)


def test_jitter_of_one_channel_touches_brightness_and_contrast_alone() -> None:
    x = images(2, channels=1)
    params = torch.tensor([[0, 1, 2, 3, 1.3, 0.6, 1.7, 0.2]]).repeat(2, 1)
    want = V.adjust_brightness(x, 1.3)
    want = torch.stack([0.6 * w + 0.4 * w.mean() for w in want]).clamp(0, 1)
    torch.testing.assert_close(ColorJitter.apply(x.clone(), params), want, rtol=0, atol=1e-5)


def test_grey_equals_torchvision() -> None:
    x = images(4)
    got = Grayscale.apply(x.clone(), torch.tensor([[1.0], [0.0], [1.0], [0.0]]))
    want = V.rgb_to_grayscale(x, num_output_channels=3)
    torch.testing.assert_close(got[[0, 2]], want[[0, 2]], rtol=0, atol=1e-6)
    assert torch.equal(got[[1, 3]], x[[1, 3]])
    one = images(2, channels=1)
    assert torch.equal(Grayscale.apply(one.clone(), torch.ones(2, 1)), one)


@pytest.mark.parametrize("threshold", [0, 1, 100, 128, 255])
def test_solarize_equals_torchvision_on_every_grey_level(threshold: int) -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(3, 1, 1, 1)
    params = torch.from_numpy(
        np.stack([Solarize(p, threshold).draw(SampleKey(0).generator(0)) for p in (1, 0, 1)])
    )
    got = Solarize.apply(levels.float() * (1 / 255), params)
    want = V.solarize(levels, threshold)
    assert torch.equal((got * 255).round()[[0, 2]], want[[0, 2]].float())
    assert torch.equal(got[1], levels[1].float() * (1 / 255))
    assert Solarize(1.0, threshold).reference()(levels[0]).equal(want[0])


def test_solarize_looks_at_each_channel_by_itself() -> None:
    x = images(4)
    params = torch.tensor([[128 / 255], [2.0], [0.25], [128 / 255]])
    got = Solarize.apply(x.clone(), params)
    assert torch.equal(got[[0, 3]], V.solarize(x[[0, 3]], 128 / 255))
    assert torch.equal(got[2], V.solarize(x[2], 0.25))
    assert torch.equal(got[1], x[1])


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_channels_without_colour_are_grey_images_each(channels: int) -> None:
    x = images(6, channels=channels)
    jitter = ColorJitter(0.8, 0.8, 0.8, 0.4)
    params = torch.from_numpy(np.stack([jitter.draw(SampleKey(i).generator(0)) for i in range(6)]))
    got = ColorJitter.apply(x.clone(), params)
    assert not torch.equal(got, x)
    for channel in range(channels):
        own = slice(channel, channel + 1)
        torch.testing.assert_close(got[:, own], ColorJitter.apply(x[:, own].clone(), params))
    # hue and saturation alone, and grey, have nothing to act on
    params[:, 4:6] = 1.0
    assert torch.equal(ColorJitter.apply(x.clone(), params), x)
    assert torch.equal(Grayscale.apply(x.clone(), torch.ones(6, 1)), x)


@pytest.mark.parametrize("side", [24, 9, 5])
def test_blur_equals_torchvision(side: int) -> None:
    x = images(5, side=side)
    sigma = torch.tensor([0.1, 0.7, 0.0, 1.4, 2.0])
    params = torch.stack([sigma, torch.full((5,), 6.0)], 1)
    got = GaussianBlur.apply(x.clone(), params)
    half = min(6, side - 1)
    for row in (0, 1, 3, 4):
        want = V.gaussian_blur(x[row], [2 * half + 1] * 2, [float(sigma[row])] * 2)
        torch.testing.assert_close(got[row], want, rtol=0, atol=2e-6)
    assert torch.equal(got[2], x[2])


def test_blur_is_close_to_pillow() -> None:
    # Pillow stacks three box filters: the same width, another shape.
    op = GaussianBlur(p=1.0, radius=(1.5, 1.5))
    x = (images(1, side=64) * 255).round()
    pillow = V.pil_to_tensor(op.reference()(V.to_pil_image(x[0].to(torch.uint8))))
    got = op.apply(x / 255, torch.tensor([[1.5, 5.0]]))[0] * 255
    inside = (slice(None), slice(6, -6), slice(6, -6))
    assert (got - pillow)[inside].abs().mean() < 2.0
    assert float(got[inside].std() / pillow.float()[inside].std()) == pytest.approx(1, abs=0.1)


def test_flip() -> None:
    x = images(3)
    got = HorizontalFlip.apply(x.clone(), torch.tensor([[1.0], [0.0], [1.0]]))
    assert torch.equal(got, torch.stack([x[0].flip(-1), x[1], x[2].flip(-1)]))


@pytest.mark.parametrize("angle", [-40.0, 15.0, 90.0])
def test_rotation_equals_torchvision_inside(angle: float) -> None:
    x = images(2, side=32)
    got = Rotation.apply(x.clone(), torch.tensor([[angle], [0.0]]))
    want = V.rotate(x[0], angle, interpolation=InterpolationMode.BILINEAR)
    # Borders differ (repeated here, black there); the inscribed circle does not.
    y, z = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    inside = (y - 15.5) ** 2 + (z - 15.5) ** 2 < 14.0**2
    torch.testing.assert_close(got[0][:, inside], want[:, inside], rtol=0, atol=1e-4)
    assert torch.equal(got[1], x[1])


def test_rotation_repeats_the_border() -> None:
    assert torch.allclose(
        Rotation.apply(torch.ones(1, 1, 16, 16), torch.tensor([[30.0]])), torch.ones(1)
    )


def test_shear_equals_torchvision_inside() -> None:
    x = images(1, side=32)
    got = Shear.apply(x.clone(), torch.tensor([[20.0]]))
    want = V.affine(x[0], 0.0, [0, 0], 1.0, [20.0, 0.0], interpolation=InterpolationMode.BILINEAR)
    torch.testing.assert_close(got[0, :, :, 8:-8], want[:, :, 8:-8], rtol=0, atol=1e-4)


@pytest.mark.parametrize("op", [Rotation(30, p=1.0), Shear(20)])
def test_reference_of_a_warp_keeps_size_and_repeats_the_border(op: ViewOp) -> None:
    white = V.to_pil_image(torch.full((1, 20, 20), 255, dtype=torch.uint8))
    out = V.pil_to_tensor(op.reference()(white))
    assert out.shape == (1, 20, 20) and int(out.min()) == 255


# ---- numbers --------------------------------------------------------------


@pytest.mark.parametrize("op", [HorizontalFlip(0.3), Grayscale(0.3)])
def test_switches_are_on_with_their_probability(op: ViewOp) -> None:
    drawn = draws(op)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    # 4,000 draws: a standard deviation of 0.0072.
    assert drawn.mean() == pytest.approx(0.3, abs=0.03)


def test_solarize_is_drawn_with_its_probability() -> None:
    drawn = draws(Solarize(0.3))
    assert set(np.unique(drawn)) == {np.float32(128 / 255), np.float32(2.0)}
    assert (drawn < 2).mean() == pytest.approx(0.3, abs=0.03)


def test_jitter_draws_torchvision_ranges() -> None:
    drawn = draws(ColorJitter(0.4, (0.5, 2.0), 1.5, 0.1, p=0.8))
    off = (drawn[:, 4:] == [1, 1, 1, 0]).all(1)
    assert off.mean() == pytest.approx(0.2, abs=0.03)
    on = drawn[~off]
    low, high = on[:, 4:].min(0), on[:, 4:].max(0)
    np.testing.assert_allclose(low, [0.6, 0.5, 0.0, -0.1], atol=0.01)
    np.testing.assert_allclose(high, [1.4, 2.0, 2.5, 0.1], atol=0.01)
    np.testing.assert_allclose(on[:, 4:].mean(0), [1.0, 1.25, 1.25, 0.0], atol=0.06)
    orders, counts = np.unique(on[:, :4], axis=0, return_counts=True)
    assert len(orders) == 24 and counts.min() > len(on) / 24 / 1.6


def test_blur_draws_its_radius() -> None:
    drawn = draws(GaussianBlur(p=0.5, radius=(0.1, 2.0)))
    on = drawn[:, 0] > 0
    assert on.mean() == pytest.approx(0.5, abs=0.03)
    assert 0.1 <= drawn[on, 0].min() < 0.12 and 1.98 < drawn[on, 0].max() <= 2.0
    assert (drawn[:, 1] == 6).all()


@pytest.mark.parametrize("op", [Rotation((-10, 30), p=0.5), Shear((-10, 30), p=0.5)])
def test_angles(op: ViewOp) -> None:
    drawn = draws(op)[:, 0]
    assert (drawn != 0).mean() == pytest.approx(0.5, abs=0.03)
    on = drawn[drawn != 0]
    assert on.min() == pytest.approx(-10, abs=0.1) and on.max() == pytest.approx(30, abs=0.1)


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        (HorizontalFlip, {"p": 1.5}),
        (Grayscale, {"p": -0.1}),
        (Solarize, {"p": 1.1}),
        (Solarize, {"threshold": 256}),
        (ColorJitter, {"brightness": -1}),
        (ColorJitter, {"hue": 0.6}),
        (ColorJitter, {"contrast": (1.2, 0.8)}),
        (GaussianBlur, {"radius": (2.0, 0.1)}),
        (GaussianBlur, {"radius": (0.0, 1.0)}),
        (Rotation, {"degrees": (10, -10)}),
        (Shear, {"degrees": 90}),
    ],
)
def test_impossible_settings(op: type[ViewOp], arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=op.__name__):
        op(**arguments)
