"""DINO and iBOT learn: short trainings on the digits beat their untrained encoders."""

from __future__ import annotations

import pytest

from msn_mm.engine.launch import build_runner, load_config


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dino", "ibot"])
def test_a_short_training_beats_the_untrained_encoder(name, tmp_path):
    options = {"train_cfg.max_epochs": 30, "train_cfg.val_interval": 30}
    runner = build_runner(load_config(f"configs/{name}_digits.py", options), work_dir=tmp_path)
    before = runner.val_loop.run()
    runner.train()
    after = runner.val_loop.run()
    for labels in (1, 2, 5):
        key = f"lowshot/{labels}_top1"
        assert after[key] > before[key] + 3, (key, before, after)
