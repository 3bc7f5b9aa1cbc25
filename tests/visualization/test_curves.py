from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msn_mm.errors import UserError
from msn_mm.visualization.curves import find_scalars, plot_training_curves, read_history


def _log(work_dir: Path, start: str, epochs: range, loss: float, iters: int = 20) -> Path:
    path = work_dir / start / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    lines = []
    for epoch in epochs:
        for step in range(epoch * iters + 8, (epoch + 1) * iters + 1, 8):
            lines.append(
                {
                    "loss": loss,
                    "loss_msn": loss - 0.1,
                    "mean_entropy": 0.9,
                    "prototypes_in_use": 8,
                    "epoch": epoch + 1,
                    "iter": step,
                    "step": step,
                }
            )
        lines.append({"lowshot/1_top1": 40.0 + epoch, "knn/top1": 80.0, "step": epoch + 1})
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


def test_times_are_epochs(tmp_path: Path) -> None:
    history = read_history([_log(tmp_path, "a", range(3), 2.0)], steps_per_epoch=20)
    assert history.unit == "epoch"
    assert history.train["loss"][0] == pytest.approx((8 / 20, 2.0))
    assert history.train["loss"][-1] == pytest.approx((56 / 20, 2.0))
    assert history.val["lowshot/1_top1"] == [(1.0, 40.0), (2.0, 41.0), (3.0, 42.0)]
    assert "loss" not in history.val and "knn/top1" not in history.train


def test_the_length_of_an_epoch_is_found_in_the_log(tmp_path: Path) -> None:
    history = read_history([_log(tmp_path, "a", range(30), 2.0)])
    assert history.train["loss"][0] == pytest.approx((8 / 20, 2.0))
    assert history.unit == "epoch"


def test_iteration_based_runs_count_iterations(tmp_path: Path) -> None:
    path = tmp_path / "scalars.json"
    path.write_text('{"loss": 1.0, "iter": 10, "step": 10}\n{"knn/top1": 5.0, "step": 10}\n')
    history = read_history([path])
    assert history.unit == "iteration"
    assert history.train["loss"] == [(10.0, 1.0)] and history.val["knn/top1"] == [(10.0, 5.0)]


def test_a_resumed_run_continues_and_its_repeats_win(tmp_path: Path) -> None:
    _log(tmp_path, "20260101_000000", range(3), 2.0)
    _log(tmp_path, "20260102_000000", range(2, 5), 1.0)
    history = read_history(find_scalars(tmp_path), steps_per_epoch=20)
    times = [at for at, _ in history.train["loss"]]
    assert times == sorted(set(times)) and len(times) == 10
    assert dict(history.train["loss"])[48 / 20] == 1.0
    assert dict(history.train["loss"])[36 / 20] == 2.0


def test_torn_lines_and_nan_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "scalars.json"
    path.write_text('{"loss": 1.0, "iter": 1}\n{"loss": NaN, "iter": 2}\n{"loss": 3.0, "it')
    assert read_history([path]).train["loss"] == [(1.0, 1.0)]


def test_errors_name_the_log(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no scalar log at"):
        plot_training_curves(tmp_path / "none.json", tmp_path / "out.png")
    empty = tmp_path / "scalars.json"
    empty.touch()
    with pytest.raises(UserError, match="no logged loss"):
        plot_training_curves(empty, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_picture_shows_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    from msn_mm.visualization import style

    kept = style.FigureCanvasAgg
    monkeypatch.setattr(
        style, "FigureCanvasAgg", lambda figure: (figures.append(figure), kept(figure))[1]
    )
    log = _log(tmp_path, "a", range(3), 2.0)
    plot_training_curves(log, tmp_path / "c.png", num_prototypes=16, baselines={"1": 60.0})
    image = np.asarray(Image.open(tmp_path / "c.png"))
    assert image.shape[0] > 300 and image.shape[1] > 900
    loss, collapse, accuracy = figures[0].axes
    lines = {line.get_label(): line for axis in figures[0].axes for line in axis.get_lines()}
    np.testing.assert_allclose(lines["cross-entropy"].get_ydata(), 1.9)
    np.testing.assert_allclose(lines["prototypes in use / K"].get_ydata(), 0.5)
    np.testing.assert_allclose(lines["1 label a class"].get_ydata(), [40, 41, 42])
    assert any(np.allclose(line.get_ydata(), math.log(16)) for line in loss.get_lines())
    assert any(np.allclose(line.get_ydata(), 60.0) for line in accuracy.get_lines()[1:])
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "nats")
    assert accuracy.get_ylabel() == "top-1 accuracy (%)" and collapse.get_ylim()[0] == 0


def test_without_validation_there_are_two_panels(tmp_path: Path) -> None:
    path = tmp_path / "scalars.json"
    path.write_text('{"loss": 1.0, "iter": 1}\n{"loss": 0.5, "iter": 2}\n')
    plot_training_curves(path, tmp_path / "two.png")
    three = tmp_path / "three.png"
    plot_training_curves(_log(tmp_path, "a", range(2), 1.0), three)
    assert Image.open(tmp_path / "two.png").width < Image.open(three).width
