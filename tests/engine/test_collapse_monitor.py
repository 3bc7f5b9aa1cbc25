"""The collapse monitor: silent on a healthy run, plain-spoken on a broken one."""

from __future__ import annotations

import pytest

from msn_mm.engine.hooks.collapse_monitor_hook import CollapseMonitorHook, Reading, diagnose
from msn_mm.errors import UserError
from msn_mm.models.methods.dino import DINO
from tests.helpers import run, tiny_digits

HEALTHY = Reading(
    feature_std=0.9,
    rank_me=20.0,
    best_rank_me=22.0,
    ce_over_ln_k=0.6,
    mean_entropy=0.98,
    prototypes_in_use=60,
    num_prototypes=64,
)
WITHOUT_PROTOTYPES = Reading(feature_std=0.9, rank_me=20.0, best_rank_me=22.0)


def warnings_of(work_dir):
    """The monitor's lines in the log file of the run."""
    lines = [line for file in work_dir.glob("*/*.log") for line in file.read_text().splitlines()]
    return [line for line in lines if "WARNING - Collapse monitor" in line]


def test_a_healthy_reading_has_no_troubles():
    assert diagnose(HEALTHY) == {}
    assert diagnose(WITHOUT_PROTOTYPES) == {}


def test_a_method_without_prototypes_is_told_of_its_representations_alone():
    troubles = diagnose(WITHOUT_PROTOTYPES._replace(feature_std=0.001))
    assert list(troubles) == ["constant representation"]
    assert "me_max" not in troubles["constant representation"]


@pytest.mark.parametrize(
    ("changes", "trouble", "knob"),
    [
        (dict(ce_over_ln_k=0.999), "uniform predictions", "learning rate"),
        (dict(mean_entropy=0.2, prototypes_in_use=3), "few prototypes", "me_max_weight"),
        (dict(feature_std=0.001, rank_me=1.2), "constant representation", "learning rate"),
        (dict(rank_me=5.0), "shrinking representation", "learning rate"),
    ],
)
def test_each_trouble_names_its_knob(changes, trouble, knob):
    troubles = diagnose(HEALTHY._replace(**changes))
    assert list(troubles) == [trouble]
    assert knob in troubles[trouble]


def test_dino_has_knobs_of_its_own():
    changes = dict(ce_over_ln_k=0.999, mean_entropy=0.2, feature_std=0.001)
    troubles = diagnose(HEALTHY._replace(**changes), DINO.collapse_knobs)
    assert len(troubles) == 3 and "me_max" not in str(troubles) and "num_proto" not in str(troubles)
    assert "lower the targets' temperature" in troubles["uniform predictions"]
    assert "Lower model.loss.centre_momentum" in troubles["few prototypes"]
    assert "head.batch_norm" in troubles["constant representation"]


def short(monitor, **options):
    cfg = tiny_digits(**{"train_cfg.max_epochs": 12, **options})
    cfg.custom_hooks = [
        dict(type="EMAHook", momentum=0.9),
        dict(type="CollapseMonitorHook", interval=4, window=4, **monitor),
    ]
    return cfg


def scalars(runner, name):
    return runner.message_hub.get_scalar(f"train/{name}").current()


def test_a_run_without_entropy_term_collapses_and_is_called_out(tmp_path):
    # No Sinkhorn, no mean-entropy term and a high rate: nothing keeps the prototypes in use.
    cfg = short(
        {},
        **{
            "model.loss.me_max_weight": 0.0,
            "model.loss.sinkhorn_iterations": 0,
            "optim_wrapper.optimizer.lr": 0.005,
        },
    )
    runner = run(cfg, tmp_path)
    said = warnings_of(tmp_path)
    assert any("few prototypes" in line and "me_max_weight" in line for line in said), said
    assert scalars(runner, "prototypes_in_use") < 8


def test_a_run_that_learns_nothing_is_called_out_once(tmp_path):
    cfg = short({"grace": 0.2}, **{"optim_wrapper.optimizer.lr": 0.0})
    run(cfg, tmp_path)
    said = [line for line in warnings_of(tmp_path) if "uniform predictions" in line]
    assert len(said) == 1, warnings_of(tmp_path)
    assert "ln K" in said[0]


def test_a_healthy_run_is_left_in_peace_and_logged(tmp_path):
    runner = run(short({}), tmp_path)
    assert not [x for x in warnings_of(tmp_path) if "uniform" not in x], warnings_of(tmp_path)
    assert 1 <= scalars(runner, "rank_me") <= 24
    assert scalars(runner, "prototypes_in_use") > 4
    assert 0 < scalars(runner, "feature_std") < 1.5
    assert 0.8 < scalars(runner, "mean_entropy") <= 1
    assert scalars(runner, "target_confidence") > 1 / 8


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    cfg = short({}, **{"optim_wrapper.optimizer.lr": 1e30})
    with pytest.raises(UserError, match="10 steps in a row were not finite, the first at"):
        run(cfg, tmp_path / "guarded")
    cfg.default_hooks.pop("non_finite_steps")
    with pytest.raises(FloatingPointError, match="Lower the learning rate"):
        run(cfg, tmp_path)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="interval"):
        CollapseMonitorHook(interval=0)
