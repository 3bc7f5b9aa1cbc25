"""MultiCrop: shapes, distribution of the crops, reproducibility, and the reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.transforms import v2

from msn_mm.datasets import MultiCrop, SampleKey, multi_view_collate
from msn_mm.datasets.multi_crop import sample_crop
from msn_mm.models.preprocessors.multi_view import MultiViewPreprocessor

LOG_RATIO = (math.log(3 / 4), math.log(4 / 3))
OPS: list[dict[str, Any]] = [
    {"type": "HorizontalFlip", "p": 0.5},
    {
        "type": "ColorJitter",
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        "hue": 0.1,
        "p": 0.8,
    },
    {"type": "Grayscale", "p": 0.2},
    {"type": "GaussianBlur", "p": 0.5, "radius": (0.1, 2.0)},
]


def views(size: int = 32) -> dict[str, dict[str, Any]]:
    return {
        "target": {"size": size, "scale": (0.3, 1.0), "ops": OPS},
        "anchor": {"size": size, "scale": (0.3, 1.0), "ops": OPS},
        "focal": {"size": size // 2, "scale": (0.05, 0.3), "num": 3, "ops": OPS[:1]},
    }


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(load_sample_images().images[0][::2, ::2])


def test_shapes_types_and_names(photo: np.ndarray) -> None:
    out = MultiCrop(views())({"img": photo, "key": SampleKey(3, 1, 2)})
    assert list(out) == ["target", "anchor", "focal"]
    assert out["focal"]["images"].shape == (3, 3, 16, 16)
    assert out["target"]["images"].dtype == np.uint8
    assert list(out["target"]["params"]) == [op["type"] for op in OPS]
    assert out["anchor"]["params"]["ColorJitter"].shape == (1, 8)
    assert out["focal"]["params"]["HorizontalFlip"].shape == (3, 1)
    # Views are numbered through all groups in order.
    key = SampleKey(3, 1, 2)
    assert out["target"]["key"].tolist() == [key.view_key(0)]
    assert out["focal"]["key"].tolist() == [key.view_key(v) for v in (2, 3, 4)]
    assert out["focal"]["key"].dtype == np.int64


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, channels), dtype=np.uint8)
    cut = MultiCrop({"target": {"size": 16, "scale": (0.5, 1.0)}}, channels=channels)
    assert cut({"img": image, "key": 0})["target"]["images"].shape == (1, channels, 16, 16)


@pytest.mark.parametrize("reference", [False, True])
def test_the_same_key_gives_the_same_pixels_any_other_key_others(
    photo: np.ndarray, reference: bool
) -> None:
    cut = MultiCrop(views(), reference=reference)
    first = cut({"img": photo, "key": SampleKey(3, 1, 2)})
    torch.manual_seed(123)
    np.random.default_rng(5).random()
    again = MultiCrop(views(), reference=reference)({"img": photo, "key": SampleKey(3, 1, 2)})
    for name in first:
        np.testing.assert_array_equal(first[name]["images"], again[name]["images"])
        for op in first[name]["params"]:
            np.testing.assert_array_equal(first[name]["params"][op], again[name]["params"][op])
    for other in (SampleKey(3, 1, 3), SampleKey(4, 1, 2), SampleKey(3, 2, 2)):
        assert (
            cut({"img": photo, "key": other})["target"]["images"] != first["target"]["images"]
        ).any()
    assert (first["target"]["images"] != first["anchor"]["images"]).any()
    assert (first["focal"]["images"][0] != first["focal"]["images"][1]).any()


def test_the_reference_leaves_torch_as_it_was(photo: np.ndarray) -> None:
    torch.manual_seed(0)
    want = torch.rand(3)
    torch.manual_seed(0)
    MultiCrop(views(), reference=True)({"img": photo, "key": 0})
    assert torch.equal(torch.rand(3), want)


def test_adding_a_view_or_an_operation_leaves_the_other_crops(photo: np.ndarray) -> None:
    plain = {"target": {"size": 32, "scale": (0.3, 1.0)}}
    more = {
        "target": {"size": 32, "scale": (0.3, 1.0), "ops": OPS},
        "x": {"size": 8, "scale": (0.1, 1)},
    }
    left = MultiCrop(plain)({"img": photo, "key": 5})["target"]["images"]
    right = MultiCrop(more)({"img": photo, "key": 5})["target"]["images"]
    np.testing.assert_array_equal(left, right)


def test_an_operation_may_be_listed_twice(photo: np.ndarray) -> None:
    twice = [{"type": "HorizontalFlip", "p": 1.0}, {"type": "HorizontalFlip", "p": 1.0}]
    cut = MultiCrop({"target": {"size": 8, "scale": (1, 1), "ops": twice}})
    assert list(cut({"img": photo, "key": 0})["target"]["params"]) == [
        "HorizontalFlip",
        "HorizontalFlip#2",
    ]


# ---- distribution ---------------------------------------------------------


def crops(height: int, width: int, scale: tuple[float, float], n: int = 4000) -> np.ndarray:
    boxes = [
        sample_crop(SampleKey(i).generator(0), height, width, scale, LOG_RATIO) for i in range(n)
    ]
    return np.array(boxes, dtype=np.float64)


def torchvision_crops(
    height: int, width: int, scale: tuple[float, float], n: int = 4000
) -> np.ndarray:
    crop = v2.RandomResizedCrop(8, scale)
    image = torch.empty(1, height, width)
    torch.manual_seed(0)
    drawn = [crop.make_params([image]) for _ in range(n)]
    return np.array(
        [[d["top"], d["left"], d["height"], d["width"]] for d in drawn], dtype=np.float64
    )


@pytest.mark.parametrize("scale", [(0.3, 1.0), (0.05, 0.3)])
@pytest.mark.parametrize(("height", "width"), [(375, 500), (200, 100)])
def test_crops_are_distributed_as_torchvision_draws_them(
    height: int, width: int, scale: tuple[float, float]
) -> None:
    ours, theirs = crops(height, width, scale), torchvision_crops(height, width, scale)
    assert (ours[:, 0] + ours[:, 2]).max() <= height and (ours[:, 1] + ours[:, 3]).max() <= width
    assert ours[:, :2].min() >= 0
    for box in (ours, theirs):
        share = box[:, 2] * box[:, 3] / (height * width)
        assert share.min() > scale[0] * 0.97 and share.max() < scale[1] * 1.03

    def summary(box: np.ndarray) -> np.ndarray:
        columns = [
            box[:, 0] / height,
            box[:, 1] / width,
            box[:, 2] * box[:, 3] / (height * width),
            np.log(box[:, 3] / box[:, 2]),
        ]
        return np.array([np.quantile(c, (0.1, 0.25, 0.5, 0.75, 0.9)) for c in columns])

    np.testing.assert_allclose(summary(ours), summary(theirs), atol=0.035)


def test_the_fallback_is_the_largest_central_box() -> None:
    # A strip 10 times as wide as high: no crop of the whole area fits.
    rng = SampleKey(0).generator(0)
    assert sample_crop(rng, 30, 300, (1.0, 1.0), LOG_RATIO) == (0, 130, 30, 40)
    assert sample_crop(rng, 300, 30, (1.0, 1.0), LOG_RATIO) == (130, 0, 40, 30)


def test_whole_crop_of_the_same_size_is_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    cut = MultiCrop({"target": {"size": 24, "scale": (1, 1), "ratio": (1, 1)}})
    got = cut({"img": image, "key": 0})["target"]["images"][0]
    np.testing.assert_array_equal(got, image.transpose(2, 0, 1))


def test_resampling_is_antialiased() -> None:
    stripes = np.zeros((128, 128, 1), np.uint8)
    stripes[:, ::2] = 255
    cut = MultiCrop({"t": {"size": 16, "scale": (1, 1), "ratio": (1, 1)}}, channels=1)
    got = cut({"img": stripes, "key": 0})["t"]["images"].astype(float)
    assert np.abs(got - 127.5).max() < 12


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("reference", [False, True])
def test_a_view_is_resampled_as_it_asks(
    photo: np.ndarray, interpolation: str, reference: bool
) -> None:
    whole = {"size": 40, "scale": (1, 1), "ratio": (1, 1), "interpolation": interpolation}
    square = np.ascontiguousarray(photo[:200, :200])
    got = MultiCrop({"t": whole}, reference=reference)({"img": square, "key": 0})["t"]["images"][0]
    for name in ("bilinear", "bicubic"):
        resample = getattr(Image.Resampling, name.upper())
        want = np.asarray(Image.fromarray(square).resize((40, 40), resample)).transpose(2, 0, 1)
        apart = np.abs(got.astype(int) - want).max()
        assert apart <= 1 if name == interpolation else apart > 3


# ---- reference ------------------------------------------------------------


def test_resampling_sees_that_channels_lie_last(
    photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else torch splits the colours and they are joined again, half of the time of a view."""
    strides = []

    def watch(source: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        resized = interpolate(source, *args, **kwargs)
        strides.append((source.stride()[:2], resized.stride()[1]))
        return resized

    interpolate = torch.nn.functional.interpolate
    monkeypatch.setattr(torch.nn.functional, "interpolate", watch)
    MultiCrop({"view": dict(size=20, scale=(0.2, 0.2))})({"img": photo, "key": 0})
    ((batch, channels), resized) = strides[0]
    assert batch > 0 and channels == resized == 1


def test_reference_and_fast_path_agree_in_distribution(photo: np.ndarray) -> None:
    group = {"target": {"size": 32, "scale": (0.3, 1.0), "ops": OPS}}
    fast, slow = MultiCrop(group), MultiCrop(group, reference=True)
    n = 400
    unit = MultiViewPreprocessor([0, 0, 0], [255, 255, 255])

    def pixels(cut: MultiCrop) -> torch.Tensor:
        parts = [cut({"img": photo, "key": SampleKey(i)})["target"] for i in range(n)]
        batch = {
            "images": torch.from_numpy(np.concatenate([p["images"] for p in parts])),
            "params": {
                op: torch.from_numpy(np.concatenate([p["params"][op] for p in parts]))
                for op in parts[0]["params"]
            },
        }
        done = unit({"inputs": {"target": batch}, "data_samples": {}})
        return done["inputs"]["target"]["images"]

    a, b = pixels(fast), pixels(slow)

    def statistics(x: torch.Tensor) -> torch.Tensor:
        grey = (x.amax(1) - x.amin(1) < 0.02).float().mean((1, 2)) > 0.99
        edges = (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3))
        return torch.stack(
            [
                *x.mean((0, 2, 3)),
                *x.std((0, 2, 3)),
                x.mean((1, 2, 3)).std(),  # brightness differs from view to view
                x.std((1, 2, 3)).std(),  # so does contrast
                (x.amax(1) - x.amin(1)).mean(),  # saturation
                edges.mean(),  # sharpness
                grey.float().mean(),
            ]
        )

    left, right = statistics(a), statistics(b)
    # Standard errors of 400 views are one to four percent of each statistic;
    # Pillow's 8 bits, cut off at each step, cost it about one percent of light.
    torch.testing.assert_close(left, right, rtol=0.09, atol=0)


# ---- arguments ------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "view 'target': size"),
        ({"size": 2.5}, "size"),
        ({"num": -1}, "num"),
        ({"scale": (1.0, 0.3)}, "scale"),
        ({"scale": (0.0, 0.3)}, "scale"),
        ({"ratio": (2.0, 1.0)}, "ratio"),
        ({"sise": 3}, "sise"),
        ({"interpolation": "nearest"}, "bilinear or bicubic: 'nearest'"),
        ({"ops": [{"type": "HorizontalFlop"}]}, "Did you mean 'HorizontalFlip'"),
        ({"ops": [{"type": "HorizontalFlip", "q": 1}]}, "view operation HorizontalFlip"),
    ],
)
def test_impossible_views(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiCrop({"target": {"size": 16, "scale": (0.3, 1.0), **change}})


def test_no_view_and_no_channel() -> None:
    with pytest.raises(ValueError, match="at least one view"):
        MultiCrop({})
    with pytest.raises(ValueError, match="channels"):
        MultiCrop(views(), channels=0)


def shared(**changes: Any) -> dict[str, dict[str, Any]]:
    groups = views()
    groups["anchor"] |= {"same_as": "target", **changes}
    return groups


@pytest.mark.parametrize("reference", [False, True])
def test_a_view_can_be_the_same_as_another_with_keys_of_its_own(
    photo: np.ndarray, reference: bool
) -> None:
    key = SampleKey(3, 1, 2)
    out = MultiCrop(shared(), reference=reference)({"img": photo, "key": key})
    apart = MultiCrop(views(), reference=reference)({"img": photo, "key": key})
    assert np.array_equal(out["anchor"]["images"], out["target"]["images"])
    assert not np.array_equal(apart["anchor"]["images"], out["target"]["images"])
    # masks differ, and no other view is another one
    assert out["anchor"]["key"].tolist() == [key.view_key(1)]
    for name in ("target", "focal"):
        assert np.array_equal(out[name]["images"], apart[name]["images"])
        assert np.array_equal(out[name]["key"], apart[name]["key"])


def test_the_same_views_are_the_same_after_the_device_s_operations(photo: np.ndarray) -> None:
    crop = MultiCrop(shared())
    samples = [crop({"img": photo, "key": SampleKey(i)}) for i in (1, 2)]
    told = {"index": 0, "unreadable": []}
    batch = multi_view_collate([{"inputs": one, "data_samples": told} for one in samples])
    prepared = MultiViewPreprocessor([0.0] * 3, [255.0] * 3)(batch)["inputs"]
    assert torch.equal(prepared["anchor"]["images"], prepared["target"]["images"])


def test_the_same_view_must_be_described_alike(photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match="'anchor' is to be the same as 'target', but their size"):
        MultiCrop(shared(size=16))
    with pytest.raises(ValueError, match="but their ops"):
        MultiCrop(shared(ops=OPS[:1]))
    with pytest.raises(ValueError, match="no view listed before it"):
        MultiCrop(shared(same_as="focal"))


def test_a_group_of_no_views_is_left_out(photo: np.ndarray) -> None:
    groups = views()
    groups["anchor"]["num"] = 0
    out = MultiCrop(groups)({"img": photo, "key": SampleKey(3)})
    assert list(out) == ["target", "focal"]
    with pytest.raises(ValueError, match="at least one view"):
        MultiCrop({"target": groups["target"] | {"num": 0}})
