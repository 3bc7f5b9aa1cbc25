"""The schedules of appendix C.1 and of the released code, driven to their end."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from msn_mm.engine.launch import load_config
from msn_mm.engine.optim.decay_groups import decay_groups
from tests.helpers import run, tiny_digits

EPOCHS, EPOCH_LENGTH = 20, 4
TOTAL = EPOCHS * EPOCH_LENGTH


def drive(tmp_path, config):
    """Run the schedules of a paper config on the tiny model; return what each step used."""
    paper = load_config(config)
    cfg = tiny_digits(**{"train_cfg.max_epochs": EPOCHS})
    cfg.optim_wrapper = paper.optim_wrapper
    cfg.param_scheduler = paper.param_scheduler
    cfg.custom_hooks = [h for h in paper.custom_hooks if h["type"] == "EMAHook"]
    cfg.train_dataloader.dataset.transform.views.focal.num = 1
    used = []

    class Record(torch.optim.AdamW):
        def step(self, *args, **kwargs):
            used.append({g["name"]: (g["lr"], g["weight_decay"]) for g in self.param_groups})
            return super().step(*args, **kwargs)

    from msn_mm.registry import OPTIMIZERS

    OPTIMIZERS.register_module(name="RecordingAdamW", module=Record, force=True)
    cfg.optim_wrapper.optimizer.type = "RecordingAdamW"
    momenta = []
    run(
        cfg,
        tmp_path,
        lambda r, _: momenta.append(r.message_hub.get_scalar("train/ema_momentum").current()),
    )
    assert len(used) == len(momenta) == TOTAL
    return used, momenta


def test_appendix_c1(tmp_path):
    used, momenta = drive(tmp_path, "configs/msn_vits16.py")
    lr = [step["decay"][0] for step in used]
    decay = [step["decay"][1] for step in used]
    warm = 15 * EPOCH_LENGTH
    assert lr[0] == pytest.approx(2e-4)
    assert all(a < b for a, b in pairwise(lr[:warm]))
    assert lr[warm] == pytest.approx(1e-3, rel=1e-6)
    for step in range(warm, TOTAL):
        cosine = 0.5 * (1 + math.cos(math.pi * (step - warm) / (TOTAL - warm)))
        assert lr[step] == pytest.approx(1e-3 * cosine, rel=1e-4, abs=1e-9)
    assert lr[-1] < 1e-5
    assert decay[0] == pytest.approx(0.04)
    for step in range(TOTAL):
        want = 0.4 - 0.36 * 0.5 * (1 + math.cos(math.pi * step / TOTAL))
        assert decay[step] == pytest.approx(want, rel=1e-4)
    assert decay[-1] == pytest.approx(0.4, rel=1e-2)
    assert all(step[g][1] == 0 for step in used for g in ("no_decay", "prototypes"))
    assert all(step["prototypes"][0] == step["decay"][0] for step in used)
    assert momenta[0] == 0.996 and momenta[-1] == 1.0
    assert momenta[TOTAL // 2] == pytest.approx(0.996 + 0.004 * 40 / 79)


def test_released_schedules_are_stretched(tmp_path):
    used, momenta = drive(tmp_path, "configs/msn_vits16_released.py")
    lr = [step["decay"][0] for step in used]
    decay = [step["decay"][1] for step in used]
    warm, long = 15 * EPOCH_LENGTH, round(1.25 * TOTAL)
    assert lr[0] == pytest.approx(2e-4)
    for step in (warm, TOTAL - 1):
        cosine = 0.5 * (1 + math.cos(math.pi * (step - warm) / (long - warm)))
        assert lr[step] == pytest.approx(1e-6 + (1e-3 - 1e-6) * cosine, rel=1e-4)
    want = 0.4 - 0.36 * 0.5 * (1 + math.cos(math.pi * (TOTAL - 1) / long))
    assert decay[-1] == pytest.approx(want, rel=1e-4)
    assert momenta[-1] == 0.9992


def recorded(tmp_path, cfg, **launch):
    """Train; return learning rate, weight decay and target momentum of each optimizer step."""
    used = []

    def look(runner, _):
        if runner.optim_wrapper.should_update():
            momentum = runner.message_hub.get_scalar("train/ema_momentum").current()
            used.append((*values, momentum))

    class Record(torch.optim.AdamW):
        def step(self, *args, **kwargs):
            values[:] = [self.param_groups[0][name] for name in ("lr", "weight_decay")]
            return super().step(*args, **kwargs)

    from msn_mm.registry import OPTIMIZERS

    values = []
    OPTIMIZERS.register_module(name="RecordingAdamW", module=Record, force=True)
    cfg.optim_wrapper.optimizer.type = "RecordingAdamW"
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    run(cfg, tmp_path, look, **launch)
    return used


@pytest.mark.parametrize("loop", ["epochs", "iterations"])
def test_a_step_s_values_do_not_depend_on_its_passes(tmp_path, loop):
    def config(accumulation):
        cfg = tiny_digits(accumulation=accumulation)
        cfg.train_dataloader.dataset.transform.views.focal.num = 1
        if loop == "iterations":
            length = 9 * accumulation
            cfg.train_cfg = dict(by_epoch=False, max_iters=length, val_interval=1000)
            cfg.default_hooks.checkpoint = None
            cfg.param_scheduler = [
                dict(type="LinearLR", start_factor=0.2, by_epoch=False, end=3),
                dict(type="CosineAnnealingLR", by_epoch=False, begin=3),
            ]
        return cfg

    one = recorded(tmp_path / "1", config(1))
    two = recorded(tmp_path / "2", config(2))
    assert len(one) == (12 if loop == "epochs" else 9)
    assert two == one
    warm, rate = 4 if loop == "epochs" else 3, config(1).optim_wrapper.optimizer.lr
    assert one[0][0] == pytest.approx(0.2 * rate) and one[warm][0] == pytest.approx(rate)
    after = 0.5 * rate * (1 + math.cos(math.pi * 2 / (len(one) - warm)))
    assert one[warm + 2][0] == pytest.approx(after, rel=1e-6)
    assert one[-1][2] == 1.0


def test_an_epoch_that_ends_within_a_step_is_as_long_as_its_passes(tmp_path):
    cfg = tiny_digits(accumulation=3, global_batch_size=12, base_batch_size=12)
    cfg.train_dataloader.sampler = dict(type="DefaultSampler", shuffle=True)
    cfg.train_cfg.max_epochs = 4
    cfg.param_scheduler = [dict(type="CosineAnnealingLR", convert_to_iter_based=True)]
    used = [step[0] for step in recorded(tmp_path, cfg)]
    rate = cfg.optim_wrapper.optimizer.lr
    # 64 passes of 4 images, the last step of one alone; MMEngine drops fractions of a step.
    assert len(used) == 22
    for step in range(21):
        cosine = 0.5 * (1 + math.cos(math.pi * step / 21))
        assert used[step] == pytest.approx(rate * cosine, rel=1e-6)


def test_a_resumed_training_of_several_passes_goes_on(tmp_path):
    def config(**options):
        every = {"default_hooks.checkpoint.interval": 1}
        return tiny_digits(**{"accumulation": 2, **every, **options})

    whole = recorded(tmp_path, config())
    again = recorded(tmp_path / "again", config(), resume=tmp_path / "epoch_2.pth")
    assert again == whole[8:]
    # The schedules of a longer training are replayed step by step.
    longer = {"train_cfg.max_epochs": 4}
    on = recorded(tmp_path / "on", config(**longer), resume=tmp_path / "epoch_2.pth")
    fresh = recorded(tmp_path / "fresh", config(**longer, accumulation=1))
    assert on == fresh[8:]


def test_groups_hold_each_trained_parameter_once():
    from msn_mm.registry import MODELS

    model = MODELS.build(tiny_digits().model)
    groups = {g["name"]: g for g in decay_groups(model)}
    assert list(groups) == ["decay", "no_decay", "prototypes"]
    listed = [p for g in groups.values() for p in g["params"]]
    assert {id(p) for p in listed} == {id(p) for p in model.parameters() if p.requires_grad}
    assert len(listed) == len({id(p) for p in listed})
    assert groups["prototypes"]["params"] == [model.head.prototypes]
    assert all(p.ndim > 1 for p in groups["decay"]["params"])
    assert all(p.ndim == 1 for p in groups["no_decay"]["params"])
    assert any(p is model.backbone.vit.pos_embed for p in groups["decay"]["params"])


def test_clipping_leaves_the_prototypes_alone(tmp_path):
    cfg = tiny_digits(
        **{
            "train_cfg.max_epochs": 1,
            "optim_wrapper.clip_grad": dict(max_norm=1e-6),
            "optim_wrapper.optimizer": dict(
                _delete_=True, type="SGD", lr=1.0, weight_decay=0.0, momentum=0.0
            ),
        }
    )
    cfg.param_scheduler = []
    from msn_mm.engine.launch import build_runner

    runner = build_runner(cfg, work_dir=tmp_path)
    before = {n: p.detach().clone() for n, p in runner.model.named_parameters()}
    runner.train()
    moved = {n: (p - before[n]).norm().item() for n, p in runner.model.named_parameters()}
    encoder = [v for n, v in moved.items() if not n.startswith("target_") and "prototypes" not in n]
    assert max(encoder) <= 4 * 1e-6 + 1e-7, "four steps of at most 1e-6"
    assert moved["head.prototypes"] > 1e-4
