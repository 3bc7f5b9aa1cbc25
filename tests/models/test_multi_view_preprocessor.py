"""The device's half: operations applied, normalised, merged, and nothing lost on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from torchvision.transforms.v2 import functional as V

from msn_mm.datasets import MultiCrop, SampleKey, multi_view_collate
from msn_mm.datasets.view_ops.blur import GaussianBlur
from msn_mm.datasets.view_ops.colour import ColorJitter
from msn_mm.errors import UserError
from msn_mm.models.preprocessors.multi_view import MultiViewPreprocessor
from msn_mm.registry import MODELS

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
OPS = [
    {"type": "HorizontalFlip", "p": 0.5},
    {"type": "ColorJitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    {"type": "GaussianBlur", "p": 0.5},
]
VIEWS: dict[str, dict[str, Any]] = {
    "target": {"size": 24, "scale": (0.3, 1.0), "ops": OPS},
    "anchor": {"size": 24, "scale": (0.3, 1.0), "ops": OPS},
    "focal": {"size": 12, "scale": (0.05, 0.3), "num": 2, "ops": OPS},
}


def batch(views: dict[str, dict[str, Any]] = VIEWS, n: int = 3) -> dict[str, Any]:
    cut = MultiCrop(views)
    rng = np.random.default_rng(0)
    samples = []
    for i in range(n):
        image = rng.integers(0, 256, (30, 30, 3), dtype=np.uint8)
        inputs = cut({"img": image, "key": SampleKey(i, 1, 1)})
        samples.append({"inputs": inputs, "data_samples": {"index": i, "unreadable": [("a", "b")]}})
    return multi_view_collate(samples)


@pytest.fixture
def preprocessor() -> MultiViewPreprocessor:
    init_default_scope("msn_mm")
    return MODELS.build({"type": "MultiViewPreprocessor", "mean": MEAN, "std": STD})


def normalised(images: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(MEAN) / 255, torch.tensor(STD) / 255
    return (images - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


def test_the_form_of_the_batch(preprocessor: MultiViewPreprocessor) -> None:
    data = batch()
    before = data["inputs"]["target"]["images"].clone()
    out = preprocessor(data, training=True)
    assert list(out["inputs"]) == ["target", "anchor", "focal"]
    for name, group in out["inputs"].items():
        assert set(group) == {"images", "key"}
        assert group["images"].dtype == torch.float32
        assert group["images"].shape == data["inputs"][name]["images"].shape
        assert torch.equal(group["key"], data["inputs"][name]["key"])
    assert out["data_samples"]["index"].tolist() == [0, 1, 2]
    assert out["data_samples"]["unreadable"] == [("a", "b")] * 3
    # The batch that hooks see afterwards is as it came.
    assert torch.equal(data["inputs"]["target"]["images"], before)
    assert "params" in data["inputs"]["target"]


def test_operations_in_their_order_then_normalised(preprocessor: MultiViewPreprocessor) -> None:
    data = batch()
    out = preprocessor(data)
    for name in VIEWS:
        group = data["inputs"][name]
        params = group["params"]
        for row, image in enumerate(group["images"]):
            want = image[None] / 255
            if params["HorizontalFlip"][row]:
                want = V.horizontal_flip(want)
            want = ColorJitter.apply(want.clone(), params["ColorJitter"][row : row + 1])
            want = GaussianBlur.apply(want, params["GaussianBlur"][row : row + 1])
            got = out["inputs"][name]["images"][row]
            torch.testing.assert_close(got, normalised(want[0]), rtol=0, atol=1e-4)


def test_order_of_the_config_is_kept() -> None:
    unit = MultiViewPreprocessor([0, 0, 0], [255, 255, 255])
    brighter = {"type": "ColorJitter", "brightness": (3.0, 3.0)}
    blur = {"type": "GaussianBlur", "p": 1.0, "radius": (2.0, 2.0)}
    views = {
        name: {"size": 24, "scale": (1, 1), "ratio": (1, 1), "ops": ops}
        for name, ops in (("target", [brighter, blur]), ("anchor", [blur, brighter]))
    }
    out = unit(batch(views))["inputs"]
    # Brightened last, clamping leaves white; blurred last, edges are soft.
    assert out["anchor"]["images"].max() == 1.0
    assert (out["target"]["images"] - out["anchor"]["images"]).abs().mean() > 0.02


def test_groups_alike_in_size_and_operations_share_a_pass(
    preprocessor: MultiViewPreprocessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    apply = GaussianBlur.apply

    def spy(images: torch.Tensor, params: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(images.shape))
        return apply(images, params)

    monkeypatch.setattr(GaussianBlur, "apply", staticmethod(spy))
    monkeypatch.setattr(GaussianBlur, "on_host", None)
    preprocessor(batch())
    assert seen == [(6, 3, 24, 24), (6, 3, 12, 12)]


def test_without_operations_only_normalised(preprocessor: MultiViewPreprocessor) -> None:
    data = batch({"target": {"size": 24, "scale": (1, 1)}})
    got = preprocessor(data)["inputs"]["target"]["images"]
    want = normalised(data["inputs"]["target"]["images"] / 255)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_half_precision_does_not_reach_pixels(preprocessor: MultiViewPreprocessor) -> None:
    want = preprocessor(batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = preprocessor(batch())
    for name in VIEWS:
        assert torch.equal(got["inputs"][name]["images"], want["inputs"][name]["images"])


def test_evaluation_batches(preprocessor: MultiViewPreprocessor) -> None:
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    samples = {"index": torch.arange(4), "label": torch.arange(4), "support": torch.ones(4) > 0}
    out = preprocessor({"inputs": images, "data_samples": samples})
    torch.testing.assert_close(out["inputs"], normalised(images / 255), rtol=0, atol=1e-5)
    assert out["inputs"].dtype == torch.float32 and set(out["data_samples"]) == set(samples)
    listed = preprocessor({"inputs": list(images), "data_samples": samples})
    assert torch.equal(listed["inputs"], out["inputs"])


def test_float_images_of_the_caller_are_not_changed(preprocessor: MultiViewPreprocessor) -> None:
    images = torch.full((1, 3, 4, 4), 100.0)
    preprocessor({"inputs": images, "data_samples": {}})
    assert (images == 100).all()


def test_wrong_number_of_channels() -> None:
    grey = MultiViewPreprocessor([127.5], [127.5])
    with pytest.raises(
        UserError, match=r"views 'target' have 3 channels and .*\.mean has 1 values"
    ):
        grey(batch())
    with pytest.raises(UserError, match="the images have 3 channels"):
        grey({"inputs": torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "data_samples": {}})


@pytest.mark.parametrize(("mean", "std"), [([1, 2], [1]), ([], []), ([1], [0])])
def test_impossible_statistics(mean: list[float], std: list[float]) -> None:
    with pytest.raises(ValueError, match="mean and std"):
        MultiViewPreprocessor(mean, std)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_pixels_on_a_gpu(preprocessor: MultiViewPreprocessor) -> None:
    want = preprocessor(batch())
    got = MultiViewPreprocessor(MEAN, STD).to("cuda")(batch())
    for name in VIEWS:
        images = got["inputs"][name]["images"]
        assert images.is_cuda
        torch.testing.assert_close(images.cpu(), want["inputs"][name]["images"], rtol=0, atol=1e-3)
