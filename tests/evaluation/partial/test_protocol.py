"""From images to accuracies: what is kept, what is read and what a row is measured through."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_digits

from msn_mm.datasets import LabelledCrop
from msn_mm.datasets.keys import SampleKey
from msn_mm.errors import UserError
from msn_mm.evaluation.data import LabelledData, labelled_data
from msn_mm.evaluation.encoder import FrozenEncoder, build_encoder
from msn_mm.evaluation.partial import protocol
from msn_mm.evaluation.partial.recipe import PartialRecipe
from msn_mm.evaluation.partial.tokens import TokenStore, crop_tokens, kept_dtype, tokens_of
from msn_mm.evaluation.partial.training import LastBlockTrainer
from msn_mm.evaluation.splits import draw_splits

RECIPE = PartialRecipe([0.01], [2], views=2, flip=0.0)


@pytest.fixture
def cfg() -> Any:
    made = tiny_digits()
    made.test_dataloader.dataset.support.indices = 200
    made.test_dataloader.dataset.query.indices = 100
    return made


@pytest.fixture
def data(cfg: Any) -> LabelledData:
    return labelled_data(cfg)


@pytest.fixture
def encoder(cfg: Any) -> FrozenEncoder:
    return build_encoder(cfg, None)


def break_image(
    data: LabelledData, index: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let an image of the labelled part be a file that nobody can read."""
    bad = folder / "bad.png"
    bad.write_bytes(b"no image")
    dataset = data.support.dataset
    told = dataset.get_data_info

    def info(asked: int) -> dict[str, Any]:
        found = dict(told(asked))
        if asked == index:
            found.pop("img", None)
            found["img_path"] = str(bad)
        return found

    monkeypatch.setattr(dataset, "get_data_info", info)


def test_one_split_has_its_tokens_at_a_time(
    data: LabelledData, encoder: FrozenEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    live: weakref.WeakSet[TokenStore] = weakref.WeakSet()
    made, room = [], TokenStore._room

    def watched(self: TokenStore, shape: tuple[int, ...]) -> Any:
        given = room(self, shape)
        held = sum(store.size for store in live) + given.numel() * given.element_size()
        live.add(self)
        made.append(held)
        return given

    monkeypatch.setattr(TokenStore, "_room", watched)
    splits = draw_splits(data.support_labels, [2], splits=3)
    protocol.measure_partial(encoder, data, splits, RECIPE)
    image = 17 * 24 * 4  # tokens of 24 float32
    assert made == [20 * image, 3 * 20 * image] * 3
    assert not live


def test_an_image_that_no_split_uses_need_not_be_readable(
    data: LabelledData,
    encoder: FrozenEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    splits = {"some": [np.arange(1, 60)]}
    whole = protocol.measure_partial(encoder, data, splits, RECIPE)["some"]
    break_image(data, 0, tmp_path, monkeypatch)
    assert protocol.measure_partial(encoder, data, splits, RECIPE)["some"]["top1"] == whole["top1"]
    break_image(data, 7, tmp_path, monkeypatch)
    with pytest.raises(UserError, match=r"bad\.png"):
        protocol.measure_partial(encoder, data, splits, RECIPE)


def crops_of(encoder: FrozenEncoder, data: LabelledData, recipe: PartialRecipe) -> TokenStore:
    """The tokens of the crops of the first four labelled images."""
    indices, side = np.arange(4), data.support[0].shape[-1]
    store = TokenStore(
        recipe.views, 4, encoder.device, next(encoder.trunk.parameters()).dtype, Path(), 2**30
    )
    crop_tokens(encoder, data.support, indices, recipe, store, side, 64, 0, lambda _: None)
    return store


def test_crops_are_each_their_own_and_resampled_as_the_view_is(
    cfg: Any, data: LabelledData, encoder: FrozenEncoder
) -> None:
    view = cfg.test_dataloader.dataset.transform
    view.interpolation = "bicubic"
    cubic = labelled_data(cfg)
    rows = torch.arange(4)
    linear, cubed = crops_of(encoder, data, RECIPE), crops_of(encoder, cubic, RECIPE)
    side = data.support[0].shape[-1]
    for tokens, kind in ((linear, "bilinear"), (cubed, "bicubic")):
        crop = LabelledCrop(side, flip=0.0, channels=1, interpolation=kind)
        for number in range(2):
            pixels = [
                crop({**data.support.dataset.get_data_info(i), "key": SampleKey(i, 0, number)})
                for i in range(4)
            ]
            wanted = encoder.tokens_before_last(torch.stack(pixels))
            torch.testing.assert_close(tokens.get(number, rows), wanted)
    apart = (linear.get(0, rows) - linear.get(1, rows)).flatten(1).abs().amax(1)
    assert bool((apart > 1e-3).all()), "two crops of an image are two"
    assert not torch.allclose(linear.get(0, rows), cubed.get(0, rows))


def test_no_other_image_takes_the_place_of_an_unreadable_one(
    data: LabelledData,
    encoder: FrozenEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_image(data, 2, tmp_path, monkeypatch)
    with pytest.raises(UserError, match=r"bad\.png"):
        crops_of(encoder, data, RECIPE)


def test_divergence_is_told_before_the_next_training(
    data: LabelledData, encoder: FrozenEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, trained = LastBlockTrainer.train, []

    def counted(self: LastBlockTrainer, *given: Any) -> Any:
        trained.append(given)
        return train(self, *given)

    monkeypatch.setattr(LastBlockTrainer, "train", counted)
    splits = draw_splits(data.support_labels, [2], splits=3)
    with pytest.raises(UserError, match=r"diverged at lr 1e.30 x 2 epochs \(2, split 0\)"):
        protocol.measure_partial(encoder, data, splits, replace(RECIPE, learning_rates=(1e30,)))
    assert len(trained) == 1


def test_with_amp_all_images_are_rounded_alike(cfg: Any, data: LabelledData) -> None:
    half = build_encoder(cfg, None, amp=True)
    assert kept_dtype(half) == torch.bfloat16
    (tokens,) = tokens_of(half, data.query, range(9), 64, 0)
    assert tokens.dtype == torch.float32
    assert torch.equal(tokens, tokens.bfloat16().float())
    exact = half.tokens_before_last(torch.stack([data.query[i] for i in range(9)]))
    assert not torch.equal(tokens, exact), "the residual stream is no half precision"


def test_results_are_the_same_however_many_trainings_wait(
    data: LabelledData, encoder: FrozenEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = draw_splits(data.support_labels, [1, 2], splits=2)

    def measured() -> dict[str, Any]:
        found = protocol.measure_partial(encoder, data, splits, RECIPE)
        return {column: values["top1"] for column, values in found.items()}

    together = measured()
    monkeypatch.setattr(protocol, "_MOST_WAITING", 1)
    assert measured() == together
