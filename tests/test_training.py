"""MSN on real digits through the real runner: it learns, repeats itself, and resumes."""

from __future__ import annotations

import pytest
import torch

from tests.helpers import run, tiny_digits, weights


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_twenty_steps_lower_the_loss(tmp_path):
    cfg = tiny_digits(**{"train_cfg.max_epochs": 5})
    losses = []
    run(cfg, tmp_path, lambda _, outputs: losses.append(outputs["loss"].item()))
    assert len(losses) == 20
    first, last = sum(losses[:4]) / 4, sum(losses[-4:]) / 4
    assert last < 0.9 * first, losses


@pytest.mark.parametrize("option", [{}, {"model.backbone.drop_path_rate": 0.2}])
def test_one_seed_gives_one_run_whatever_the_number_of_workers(tmp_path, option):
    results = []
    for workers in (0, 2):
        cfg = tiny_digits(
            **{
                "train_dataloader.num_workers": workers,
                "train_dataloader.persistent_workers": workers > 0,
                **option,
            }
        )
        results.append(weights(run(cfg, tmp_path / str(workers))))
    assert equal(*results)


def test_another_seed_gives_another_run(tmp_path):
    one, other = (weights(run(tiny_digits(), tmp_path / str(s), seed=s)) for s in (1, 2))
    assert not equal(one, other)


def test_a_resumed_run_ends_bitwise_where_the_uninterrupted_one_does(tmp_path):
    options = {"default_hooks.checkpoint.interval": 1}
    whole = run(tiny_digits(**options), tmp_path / "whole")
    assert (tmp_path / "whole" / "epoch_2.pth").is_file()
    resumed = run(
        tiny_digits(**options), tmp_path / "resumed", resume=tmp_path / "whole" / "epoch_2.pth"
    )
    assert resumed.iter == whole.iter
    assert equal(weights(whole), weights(resumed))


def test_bfloat16_on_a_cpu_learns_too(tmp_path):
    losses = []
    runner = run(
        tiny_digits(**{"train_cfg.max_epochs": 5}),
        tmp_path,
        lambda _, outputs: losses.append(outputs["loss"].item()),
        amp=True,
    )
    assert sum(losses[-4:]) < 0.95 * sum(losses[:4])
    assert all(p.dtype == torch.float32 for p in runner.model.parameters())


def test_validation_reports_low_shot_and_knn(tmp_path):
    cfg = tiny_digits(**{"train_cfg.max_epochs": 1, "train_cfg.val_interval": 1})
    cfg.param_scheduler = []
    runner = run(cfg, tmp_path)
    for name in ("lowshot/1_top1", "lowshot/5_std", "knn/top1"):
        assert f"val/{name}" in runner.message_hub.log_scalars
    assert runner.message_hub.get_scalar("val/knn/top1").current() > 20
