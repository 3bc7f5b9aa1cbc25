"""Corruptions made on the fly: deterministic, stronger with severity, alone in their randomness."""

from __future__ import annotations

import builtins
from importlib import metadata

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader

from msn_mm.datasets import Digits, EvalCrop, EvaluationImages
from msn_mm.errors import UserError
from msn_mm.evaluation.robustness import corrupted_view
from msn_mm.evaluation.robustness.corrupted_view import CorruptedView, corrupted, library_version
from msn_mm.evaluation.robustness.corruption_error import CORRUPTIONS, SEVERITIES

imagecorruptions = pytest.importorskip("imagecorruptions")

VIEW = EvalCrop(resize=64, crop=64)
PHOTO = {"img": load_sample_images().images[0], "sample_idx": 3}


def test_the_fifteen_are_the_library_s() -> None:
    assert list(CORRUPTIONS) == imagecorruptions.get_corruption_names("common")
    assert all(name in imagecorruptions.corruption_dict for name in CORRUPTIONS)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_function_of_image_seed_and_severity(corruption: str) -> None:
    clean = VIEW(dict(PHOTO)).float()
    views = [CorruptedView(VIEW, corruption, severity)(PHOTO) for severity in SEVERITIES]
    assert all(v.shape == (3, 64, 64) and v.dtype == torch.uint8 for v in views)
    distance = [(v.float() - clean).abs().mean().item() for v in views]
    assert 0 < distance[0] < distance[-1]
    np.random.seed(7)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    again = CorruptedView(VIEW, corruption, 5)(PHOTO)
    assert torch.equal(again, views[-1])
    assert np.array_equal(np.random.get_state()[1], before), "the global generator is not ours"  # noqa: NPY002


RANDOM = ("gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow")


@pytest.mark.parametrize("corruption", [*RANDOM, "frost", "fog", "elastic_transform"])
def test_other_images_and_seeds_draw_other_numbers(corruption: str) -> None:
    view = CorruptedView(VIEW, corruption, 3)
    one = view(PHOTO)
    assert not torch.equal(one, view({**PHOTO, "sample_idx": 4}))
    assert not torch.equal(one, CorruptedView(VIEW, corruption, 3, seed=1)(PHOTO))


def test_noise_has_the_published_strength() -> None:
    # arXiv 1903.12261's code: Gaussian noise of deviation 0.08 to 0.38 on [0, 1]
    grey = {"img": np.full((64, 64, 3), 128, np.uint8), "sample_idx": 0}
    for severity, sigma in ((1, 0.08), (2, 0.12)):
        noise = CorruptedView(VIEW, "gaussian_noise", severity)(grey).float() / 255
        assert noise.std().item() == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_as_strong_on_grey_images(channels: int) -> None:
    # arXiv 1903.12261's code, severities 1, 3 and 5
    view = EvalCrop(64, 64, channels=channels)
    grey = {"img": np.full((64, 64, channels), 128, np.uint8), "sample_idx": 0}

    def noisy(corruption: str, severity: int) -> torch.Tensor:
        return CorruptedView(view, corruption, severity)(grey).float() / 255

    for severity, sigma in ((1, 0.08), (3, 0.18)):
        # at 0.18 half a percent is cut off at black and white
        noise = noisy("gaussian_noise", severity)
        assert noise.std().item() == pytest.approx(sigma, rel=0.06)
    # Poisson: variance is the mean over the number of photons at white
    for severity, photons in ((1, 60), (3, 12)):
        noise = noisy("shot_noise", severity)
        assert noise.std().item() == pytest.approx((128 / 255 / photons) ** 0.5, rel=0.06)
    for severity, share in ((1, 0.03), (3, 0.09), (5, 0.27)):
        noise = noisy("impulse_noise", severity)
        extreme = ((noise == 0) | (noise == 1)).float().mean().item()
        assert extreme == pytest.approx(share, rel=0.2)
        assert (noise != 128 / 255).float().mean().item() == pytest.approx(extreme)


def test_grey_stays_grey_and_workers_change_nothing() -> None:
    images = EvaluationImages(
        Digits(split="test", indices=6), EvalCrop(resize=None, crop=None, channels=1)
    )
    noisy = corrupted(images, "shot_noise", 5, seed=2)
    alone = torch.stack([noisy[i] for i in range(6)])
    assert alone.shape == (6, 1, 32, 32)
    both = torch.cat(list(DataLoader(noisy, batch_size=2, num_workers=2)))
    assert torch.equal(alone, both)
    assert noisy.labels is not None and (noisy.labels == images.labels).all()
    assert noisy.view_settings()["corruption"] == "shot_noise"
    assert noisy.view_settings() != corrupted(images, "shot_noise", 5, seed=3).view_settings()


def test_what_a_user_can_get_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="1 or 3 channels, and the model takes 5"):
        CorruptedView(EvalCrop(channels=5), "fog", 1)
    with pytest.raises(UserError, match="want images of 32 pixels a side, not 16 x 16"):
        CorruptedView(EvalCrop(resize=16, crop=16), "fog", 1)(PHOTO)
    with pytest.raises(ValueError, match="no corruption rain of severity 1"):
        CorruptedView(VIEW, "rain", 1)
    with pytest.raises(ValueError, match="fog of severity 6"):
        CorruptedView(VIEW, "fog", 6)
    real = metadata.version

    def without(missing: str, there: str = ""):
        def version(name: str) -> str:
            if name == missing:
                raise metadata.PackageNotFoundError(name)
            return "1.1.2" if name == there else real(name)

        return version

    for fake, said in (
        (without(corrupted_view.LIBRARY), "pip install imagecorruptions-imaug"),
        (without("", "imagecorruptions"), "pip uninstall imagecorruptions imagecorruptions-imaug"),
    ):
        library_version.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(metadata, "version", fake)
            with pytest.raises(UserError, match=said) as caught:
                library_version()
        assert "\n" not in str(caught.value)
    library_version.cache_clear()
    assert library_version() == real(corrupted_view.LIBRARY)


def test_a_library_that_prints_is_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def chatty(image: np.ndarray, **_: object) -> np.ndarray:
        builtins.print("ValueError for zoom blur, Exception handling")
        return image

    monkeypatch.setattr(imagecorruptions, "corrupt", chatty)
    CorruptedView(VIEW, "zoom_blur", 1)(PHOTO)
    assert not capsys.readouterr().out
