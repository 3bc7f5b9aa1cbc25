"""Mistakes in a config that show while its parts are built, in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from msn_mm.engine.build_errors import config_mistakes
from msn_mm.engine.launch import build_runner, load_config
from msn_mm.errors import UserError
from msn_mm.registry import BATCH_AUGMENTS, MODELS


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("data_preprocessor.batch_augments.augments.0.alpha", 0, "alpha of Mixup is 0; it must"),
        ("data_preprocessor.batch_augments.probs", "[0.7,0.5]", "probs is '.0.7,0.5.'; give 2 "),
        ("head.loss.label_smooth_val", 0, "LabelSmoothLoss: .*label_smooth_val over .*gets 0"),
        ("head.type", "StackedLinearClsHead", "needs the argument 'mid_channels', which the con"),
        ("backbone.drop_path_rate", 1.0, "drop_path_rate is 1.0, which a ViT cannot have"),
    ],
)
def test_a_classifier_s_settings(tmp_path: Path, option: str, value: Any, told: str) -> None:
    cfg = load_config("configs/finetune_digits.py", {f"model.{option}": value})
    with pytest.raises(UserError, match=told) as refusal:
        build_runner(cfg, work_dir=tmp_path)
    assert "\n" not in str(refusal.value)


class Checks:
    """Calls what refuses by an assertion."""

    def __init__(self, ratio: float) -> None:
        check(ratio)


def check(ratio: float) -> None:
    assert ratio > 2


def test_a_bare_assertion_is_told_by_its_code() -> None:
    told = r"^Mixup: alpha=1 does not meet 'isinstance\(alpha, float\) and alpha > 0'$"
    with pytest.raises(UserError, match=told), config_mistakes():
        BATCH_AUGMENTS.build(dict(type="Mixup", alpha=1))
    MODELS.register_module(name="Checks", module=Checks, force=True)
    # Deeper in a library it may be a bug, and outside of a registry it is one.
    for build in (lambda: MODELS.build(dict(type="Checks", ratio=1)), lambda: check(1)):
        with pytest.raises(AssertionError), config_mistakes():
            build()
