"""Pictures in TensorBoard, read back by its own reader; the training is the same without them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from helpers import assert_same, run, tiny_digits, weights
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from msn_mm.engine.hooks.pictures_hook import PicturesHook
from msn_mm.engine.launch import build_runner
from msn_mm.engine.random_state import random_state
from msn_mm.evaluation.encoder import encoder_of
from msn_mm.visualization.shown_views import ViewSource, painted
from msn_mm.visualization.view_sheet import sheet

EACH_EPOCH = {"default_hooks.checkpoint.interval": 1}
BACKENDS = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]


def pictured(**options: Any) -> Config:
    """A tiny training that shows itself: validated each epoch, on few images."""
    few = {
        f"val_dataloader.dataset.{side}.indices": count
        for side, count in (("support", 200), ("query", 60))
    }
    return tiny_digits(
        **{
            **few,
            "test_dataloader.dataset.query.indices": 60,
            "visualizer.vis_backends": BACKENDS,
            "train_cfg.val_interval": 1,
            "train_cfg.max_epochs": 2,
            "val_evaluator.splits": 2,
            **options,
        }
    )


class Shown(NamedTuple):
    """A training with pictures, the images of its first batch, its generators at the end."""

    runner: Runner
    indices: list[int]
    generators: dict[str, Any]


class FirstBatch(Hook):
    def __init__(self) -> None:
        self.indices: list[int] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.indices = self.indices or data_batch["data_samples"]["index"].tolist()


def events(work_dir: Path) -> EventAccumulator:
    (file,) = work_dir.rglob("events.out.tfevents.*")
    return EventAccumulator(str(file), size_guidance={"images": 0}).Reload()


def pixels(event: Any) -> np.ndarray:
    with Image.open(io.BytesIO(event.encoded_image_string)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    place = tmp_path_factory.mktemp("shown")
    runner = build_runner(pictured(**EACH_EPOCH), work_dir=place, deterministic=True)
    seen = FirstBatch()
    runner.register_hook(seen)
    runner.train()
    return Shown(runner, seen.indices, random_state())


def test_tensorboard_shows_views_attention_and_features(shown: Shown) -> None:
    runner, indices, _ = shown
    place = Path(runner.work_dir)
    found = events(place)
    assert set(found.Tags()["images"]) == {"views", "attention"}
    assert {"loss", "lowshot/1_top1", "knn/top1"} <= set(found.Tags()["scalars"])
    # the very views that the first step had
    (views,) = found.Images("views")
    assert views.step == 1
    grid = pixels(views)
    for row, index in enumerate(indices[:4]):
        own = list(ViewSource(pictured(), index).at(seed=0, epoch=0))
        expected = [(255 * painted(view)).round().astype(np.uint8) for view in own]
        top = row * 36
        assert np.array_equal(grid[top : top + 32, : 32 * 2 + 4], sheet([expected[:2]]))
    # at each validation, and not once more at the end
    assert [event.step for event in found.Images("attention")] == [4, 8]
    first, last = map(pixels, found.Images("attention"))
    assert first.shape == (4 * 128 + 12, 4 * 128 + 12, 3) and not np.array_equal(first, last)
    # the projector has the trained encoder's features
    (vectors,) = place.rglob("tensors.tsv")
    features = np.loadtxt(vectors)
    query = runner.val_dataloader.dataset.query
    images = torch.stack([query[i] for i in range(60)])
    assert np.allclose(features, encoder_of(runner.model)(images).numpy(), atol=1e-5)
    labels = vectors.with_name("metadata.tsv").read_text().split()
    assert labels == [query.classes[label] for label in query.labels]
    with Image.open(vectors.with_name("sprite.png")) as sprite:
        assert sprite.size == (8 * 32, 8 * 32)


def test_pictures_change_nothing_in_a_training(shown: Shown, tmp_path: Path) -> None:
    plain = pictured()
    plain.custom_hooks = [h for h in plain.custom_hooks if h.type != "PicturesHook"]
    bare = run(plain, tmp_path, deterministic=True)
    assert_same(random_state(), shown.generators)
    assert_same(weights(shown.runner), weights(bare))
    losses = [one.message_hub.get_scalar("train/loss").data[0] for one in (shown.runner, bare)]
    assert np.array_equal(*losses) and len(losses[0]) == 8


def test_a_resumed_training_is_the_same_with_pictures(shown: Shown, tmp_path: Path) -> None:
    first = Path(shown.runner.work_dir, "epoch_1.pth")
    (tmp_path / first.name).write_bytes(first.read_bytes())
    resumed = run(pictured(**EACH_EPOCH), tmp_path, resume=True, deterministic=True)
    assert_same(weights(resumed), weights(shown.runner))
    (views,) = events(tmp_path).Images("views")
    assert views.step == 5  # of this process's first batch


def test_without_a_board_nothing_is_made(tmp_path: Path) -> None:
    runner = build_runner(tiny_digits(**{"train_cfg.max_epochs": 2}), work_dir=tmp_path)
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, PicturesHook))
    runner.train()
    assert hook._images is None and not list(tmp_path.rglob("*.png"))


def test_a_picture_that_fails_costs_a_line(tmp_path: Path) -> None:
    cfg = pictured()
    cfg.test_dataloader.dataset.query = dict(type="ImageFolder", data_root=str(tmp_path / "none"))
    run(cfg, tmp_path / "run")
    (log,) = (tmp_path / "run").rglob("*.log")
    lines = [line for line in log.read_text().splitlines() if "no picture in the log" in line]
    assert len(lines) == 1 and str(tmp_path / "none") in lines[0]  # MMEngine logs a line once


def test_numbers_are_checked() -> None:
    with pytest.raises(ValueError, match="features -1"):
        PicturesHook(features=-1)
