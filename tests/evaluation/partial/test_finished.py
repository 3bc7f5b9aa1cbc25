"""What a stopped run has finished is not trained again, and the results are the same bitwise."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_digits

from msn_mm.errors import UserError
from msn_mm.evaluation.data import LabelledData, labelled_data
from msn_mm.evaluation.encoder import FrozenEncoder, build_encoder
from msn_mm.evaluation.partial import protocol
from msn_mm.evaluation.partial.finished import FinishedTrainings, KeptTrainings
from msn_mm.evaluation.partial.protocol import Computing
from msn_mm.evaluation.partial.recipe import PartialRecipe, Trial
from msn_mm.evaluation.partial.training import LastBlockTrainer
from msn_mm.evaluation.splits import Splits, draw_splits

RECIPE = PartialRecipe([0.003, 0.01], [2], folds=2, views=1, flip=0.0)
TRAININGS = 2 * (2 * 2 + 1)  # of two splits: two rates in two folds, and the chosen one


class Stopped(Exception):
    """What stands for a kill between two trainings."""


@pytest.fixture(scope="module")
def cfg() -> Any:
    made = tiny_digits()
    made.test_dataloader.dataset.support.indices = 200
    made.test_dataloader.dataset.query.indices = 100
    return made


@pytest.fixture(scope="module")
def data(cfg: Any) -> LabelledData:
    return labelled_data(cfg)


@pytest.fixture(scope="module")
def encoder(cfg: Any) -> FrozenEncoder:
    return build_encoder(cfg, None)


@pytest.fixture(scope="module")
def splits(data: LabelledData) -> Splits:
    return draw_splits(data.support_labels, [3], splits=2)


@pytest.fixture(scope="module")
def whole(encoder: FrozenEncoder, data: LabelledData, splits: Splits) -> dict[str, Any]:
    """The undisturbed run, which keeps nothing."""
    return without_seconds(protocol.measure_partial(encoder, data, splits, RECIPE))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the trainings; the first entry is how many may still be run before a stop."""
    train, left = LastBlockTrainer.train, [10**6, 0]

    def counted(self: LastBlockTrainer, *given: Any) -> Any:
        if left[0] == 0:
            raise Stopped
        left[0] -= 1
        left[1] += 1
        return train(self, *given)

    monkeypatch.setattr(LastBlockTrainer, "train", counted)
    return left


Measure = Callable[..., dict[str, Any]]


@pytest.fixture
def measure(encoder: FrozenEncoder, data: LabelledData, splits: Splits, tmp_path: Path) -> Measure:
    def measured(recipe: PartialRecipe = RECIPE, keeps: bool = True, **other: Any) -> Any:
        kept = FinishedTrainings(tmp_path / "trainings.json") if keeps else None
        given = {"encoder": encoder, "data": data, "splits": splits, **other}
        computing = Computing(batch_size=given.pop("batch_size", 64), finished=kept)
        return protocol.measure_partial(**given, recipe=recipe, computing=computing)

    return measured


def without_seconds(found: dict[str, Any]) -> dict[str, Any]:
    return {
        column: {key: value for key, value in told.items() if key != "seconds"}
        for column, told in found.items()
    }


def test_a_run_stopped_between_any_two_trainings_goes_on(
    measure: Measure,
    encoder: FrozenEncoder,
    whole: dict[str, Any],
    trained: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for done in range(TRAININGS):
        trained[0] = 1
        with monkeypatch.context() as patch:
            # The last one is stopped when the held-out images are about to be asked.
            patch.setattr(protocol._Measurement, "ask", lambda _: pytest.fail("not all trained"))
            if done == TRAININGS - 1:
                patch.setattr(protocol._Measurement, "ask", stop)
            with pytest.raises(Stopped):
                measure()
        assert trained[1] == done + 1, "one more, and none again"
    assert len(list((tmp_path / "trained").glob("*.pth"))) == 2
    trained[0] = 0
    again = measure()
    assert trained[1] == TRAININGS
    assert without_seconds(again) == whole
    assert not (tmp_path / "trained").exists(), "weights go once they have answered"
    # Nothing is computed a third time, not even tokens.
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "tokens_before_last", lambda *_: pytest.fail("tokens"))
        assert measure() == again
    assert again["3"]["seconds"][0] > 0


def stop(_: object) -> None:
    raise Stopped


def test_splits_stay_in_order_where_some_were_finished(
    measure: Measure, whole: dict[str, Any], splits: Splits, trained: list[int]
) -> None:
    measure(splits={"3": [splits["3"][1]]})
    trained[1] = 0
    assert without_seconds(measure()) == whole
    assert trained[1] == TRAININGS // 2


def test_splits_are_told_apart_where_nothing_is_chosen(
    measure: Measure, trained: list[int]
) -> None:
    given = replace(RECIPE, learning_rates=[0.01])
    apart = without_seconds(measure(given, keeps=False))
    assert apart["3"]["top1"][0] != apart["3"]["top1"][1]
    trained[1] = 0
    assert without_seconds(measure(given)) == apart
    assert trained[1] == 2


def test_a_wider_grid_trains_what_is_new(measure: Measure, trained: list[int]) -> None:
    wide = replace(RECIPE, learning_rates=(0.003, 0.1, 0.01))
    whole = without_seconds(measure(wide, keeps=False))
    measure()
    trained[1] = 0
    assert without_seconds(measure(wide)) == whole
    changed = [chosen["lr"] == 0.1 for chosen in whole["3"]["chosen"]]
    assert trained[1] == 2 * 2 + sum(changed)


def test_what_differs_is_trained_anew(
    cfg: Any,
    measure: Measure,
    trained: list[int],
    data: LabelledData,
    splits: Splits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measure()
    trained[0] = 0
    measure()
    bicubic = copy.deepcopy(cfg)
    bicubic.test_dataloader.dataset.transform.interpolation = "bicubic"
    for changed in (
        {"encoder": build_encoder(cfg, None, seed=1)},
        {"batch_size": 32},
        {"recipe": replace(RECIPE, seed=1)},
        {"recipe": replace(RECIPE, drop_path=0.1)},
        {"recipe": replace(RECIPE, batch=2)},
        {"recipe": replace(RECIPE, epochs=[3])},
        {"recipe": replace(RECIPE, scale=(0.5, 1.0))},
        {"splits": {"3": [199 - rows[::-1] for rows in splits["3"]]}},
    ):
        with pytest.raises(Stopped):
            measure(**changed)
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "training_sources", lambda: "edited")
        with pytest.raises(Stopped):
            measure()
    # Another view, at every training of the choice too.
    trained[:] = 10**6, 0
    measure(data=labelled_data(bicubic))
    assert trained[1] == TRAININGS
    trained[0] = 0
    # Another label of one image.
    swapped = data.support_labels.copy()
    swapped[splits["3"][0][0]] += 1
    monkeypatch.setattr(type(data), "support_labels", property(lambda _: swapped))
    with pytest.raises(Stopped):
        measure()


def test_a_name_tells_all_of_a_training(tmp_path: Path) -> None:
    file = FinishedTrainings(tmp_path / "trainings.json")
    rows, other, images = np.array([0, 1]), np.array([2, 3]), [b"a", b"b", b"c", b"d"]
    kept = KeptTrainings(file, {"encoder": "x"}, images)
    names = [
        kept.key(Trial(0.1, 3), rows, 4, other),
        kept.key(Trial(0.2, 3), rows, 4, other),
        kept.key(Trial(0.1, 4), rows, 4, other),
        kept.key(Trial(0.1, 3), other, 4, other),
        kept.key(Trial(0.1, 3), rows, 5, other),
        kept.key(Trial(0.1, 3), rows, 4, rows),
        kept.key(Trial(0.1, 3), rows, 4, "held out"),
        kept.key(Trial(0.1, 3), rows, 4),
        KeptTrainings(file, {"encoder": "y"}, images).key(Trial(0.1, 3), rows, 4, other),
        KeptTrainings(file, {"encoder": "x"}, images[::-1]).key(Trial(0.1, 3), rows, 4, other),
    ]
    assert len(set(names)) == len(names)
    assert KeptTrainings(file, {"encoder": "x"}, images).key(Trial(0.1, 3), rows, 4) == names[7]


def test_other_held_out_images_are_asked_anew_and_nothing_else(
    measure: Measure, trained: list[int], cfg: Any
) -> None:
    measure()
    fewer = copy.deepcopy(cfg)
    fewer.test_dataloader.dataset.query.indices = 90
    trained[1] = 0
    data = labelled_data(fewer)
    again = measure(data=data)
    assert trained[1] == 2, "the chosen ones: their weights are gone"
    assert without_seconds(again) == without_seconds(measure(keeps=False, data=data))


def test_damaged_files_are_told_and_their_trainings_run_again(
    measure: Measure,
    whole: dict[str, Any],
    trained: list[int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(protocol._Measurement, "ask", stop)
        with pytest.raises(Stopped):
            measure()
    one, other = sorted((tmp_path / "trained").glob("*.pth"))
    one.write_bytes(one.read_bytes()[:-300])
    other.write_bytes(b"")
    trained[1] = 0
    assert without_seconds(measure()) == whole
    assert trained[1] == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and all("it is trained again" in line for line in told)

    file = tmp_path / "trainings.json"
    content = json.loads(file.read_text())
    key = next(iter(content["trainings"]))
    content["trainings"][key]["right"] = "many"
    file.write_text(json.dumps(content))
    trained[1] = 0
    assert without_seconds(measure()) == whole
    assert trained[1] == TRAININGS
    assert "all trainings are run again" in capsys.readouterr().err


def test_a_diverged_trial_is_known_as_such(measure: Measure, trained: list[int]) -> None:
    recipe = replace(RECIPE, learning_rates=(1e30, 0.01))
    first = measure(recipe)
    trained[0] = 0
    assert measure(recipe) == first
    assert {chosen["lr"] for chosen in first["3"]["chosen"]} == {0.01}
    assert first["3"]["chosen"][0]["held_out_log_loss"]["lr 1e+30 x 2 epochs"] == float("inf")


def test_no_room_for_what_is_kept_is_one_line(
    measure: Measure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*trainings\.json: No space left"):
        measure()
    monkeypatch.setattr(FinishedTrainings, "add", lambda *_: None)
    with pytest.raises(UserError, match=r"cannot write .*trained/.*\.pth: No space left"):
        measure()
    assert not list((tmp_path / "trained").iterdir())


def test_kept_weights_hold_data_alone(measure: Measure, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(protocol._Measurement, "ask", stop)
    with pytest.raises(Stopped):
        measure()
    for file in (tmp_path / "trained").glob("*.pth"):
        kept = torch.load(file, weights_only=True)
        assert set(kept) == {"model", "seconds", "tokens"} and "head.weight" in kept["model"]
