from __future__ import annotations

import pytest
from mmengine.config import Config

from msn_mm.errors import UserError
from msn_mm.evaluation.protocol import build_metric, evaluation_only, evaluation_parts

LOADER = {"batch_size": 4, "dataset": {"type": "LabelledImages"}}
METRIC = {"type": "LowShotMetric", "splits": 3}


def test_parts_come_from_the_part_asked_for_or_the_other() -> None:
    other = {**LOADER, "batch_size": 8}
    both = Config(
        {
            "val_dataloader": LOADER,
            "val_evaluator": METRIC,
            "test_dataloader": other,
            "test_evaluator": [{"type": "Accuracy"}, METRIC],
        }
    )
    assert evaluation_parts(both, "val")[0]["batch_size"] == 4
    assert evaluation_parts(both, "test")[0]["batch_size"] == 8
    assert evaluation_parts(both, "test")[1] == METRIC
    only = Config({"val_dataloader": LOADER, "val_evaluator": METRIC, "test_dataloader": None})
    assert evaluation_parts(only, "test")[0]["batch_size"] == 4


@pytest.mark.parametrize(
    "content",
    [
        {"val_dataloader": None, "val_evaluator": None},
        {"val_dataloader": LOADER, "val_evaluator": {"type": "Accuracy"}},
        {},
    ],
)
def test_a_config_without_labels_says_what_to_set(content: dict) -> None:
    with pytest.raises(UserError, match=r"set test_dataloader .*LabelledImages.*LowShotMetric"):
        evaluation_parts(Config(content), "test")


def test_evaluation_only_drops_training_and_leaves_the_config_alone() -> None:
    cfg = Config(
        {
            "train_cfg": {"max_epochs": 3},
            "train_dataloader": LOADER,
            "optim_wrapper": {"optimizer": {"type": "SGD"}},
            "custom_hooks": [{"type": "EMAHook"}],
            "val_cfg": {},
            "val_dataloader": LOADER,
            "val_evaluator": METRIC,
            "model": {"type": "X"},
        }
    )
    before = cfg.pretty_text
    lean = evaluation_only(cfg)
    assert cfg.pretty_text == before
    for key in ("train_cfg", "train_dataloader", "optim_wrapper", "custom_hooks", "val_cfg"):
        assert lean[key] is None
    assert lean.test_dataloader["batch_size"] == 4 and lean.test_evaluator == [METRIC]
    assert lean.model == {"type": "X"}


def test_settings_can_be_replaced() -> None:
    metric = build_metric(METRIC, splits=7)
    assert metric.splits == 7 and metric.settings()["splits"] == 7
