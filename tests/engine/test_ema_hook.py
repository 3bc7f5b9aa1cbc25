"""The target network in real runs."""

from __future__ import annotations

import pytest
import torch

from msn_mm.engine.hooks.ema_hook import EMAHook
from msn_mm.errors import UserError
from msn_mm.models.ops.ema import cosine_momentum, ema_update_, linear_momentum
from tests.helpers import run, tiny_digits, weights


def test_update_is_the_weighted_mean():
    torch.manual_seed(0)
    targets, sources = [torch.randn(3, 4), torch.randn(5)], [torch.randn(3, 4), torch.randn(5)]
    expected = [0.9 * t + 0.1 * s for t, s in zip(targets, sources, strict=True)]
    ema_update_(targets, sources, 0.9)
    for got, want in zip(targets, expected, strict=True):
        assert torch.allclose(got, want, atol=1e-6)
    frozen = [t.clone() for t in targets]
    ema_update_(targets, sources, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(targets, frozen, strict=True))


def test_momentum_is_linear_and_ends_exactly():
    values = [linear_momentum(t, 11, 0.996) for t in range(11)]
    assert values[0] == 0.996
    assert values[5] == pytest.approx(0.998)
    assert values[10] == 1.0
    assert linear_momentum(0, 1, 0.9) == 1.0


def test_momentum_by_a_cosine_ends_exactly():
    values = [cosine_momentum(t, 11, 0.99) for t in range(11)]
    assert values[0] == pytest.approx(0.99, abs=1e-15) and values[10] == 1.0
    assert values[5] == pytest.approx(0.995)
    # cos 36 degrees is (1 + sqrt 5) / 4
    assert values[2] == pytest.approx(1 - 0.005 * (1 + (1 + 5**0.5) / 4), abs=1e-12)
    assert values == sorted(values)
    assert cosine_momentum(0, 1, 0.9) == 1.0
    assert cosine_momentum(4, 9, 0.0, 0.5) == pytest.approx(0.25)


def test_the_hook_follows_the_schedule_that_it_is_given(tmp_path):
    cfg = tiny_digits(**{"train_cfg.max_epochs": 1})
    cfg.custom_hooks = [dict(type="EMAHook", momentum=0.9, schedule="cosine")]
    seen = []
    cfg.param_scheduler = []
    runner = run(
        cfg,
        tmp_path,
        lambda runner, _: seen.append(
            runner.message_hub.get_scalar("train/ema_momentum").current()
        ),
    )
    assert seen == pytest.approx([cosine_momentum(t, runner.iter, 0.9) for t in range(4)])
    assert seen[1] != pytest.approx(linear_momentum(1, 4, 0.9))
    with pytest.raises(UserError, match=r"schedule is 'cosin'\. Did you mean 'cosine'"):
        EMAHook(schedule="cosin")


@pytest.mark.parametrize("accumulation", [1, 3])
def test_target_follows_real_steps_only(tmp_path, accumulation):
    cfg = tiny_digits(accumulation=accumulation, global_batch_size=12, base_batch_size=12)
    cfg.custom_hooks = [dict(type="EMAHook", momentum=0.9)]
    history = []
    first = []

    def look(runner, _):
        momentum = None
        if runner.optim_wrapper.should_update():
            momentum = runner.message_hub.get_scalar("train/ema_momentum").current()
        history.append((weights(runner), momentum))

    from msn_mm.engine.launch import build_runner
    from tests.helpers import Watch

    runner = build_runner(cfg, work_dir=tmp_path)
    first.append(weights(runner))
    runner.register_hook(Watch(look))
    runner.train()
    total = len(history)
    assert total == 3 * (64 // 12) * accumulation  # an epoch ends with an optimizer step
    before = first[0]
    moved = 0
    for step, (after, momentum) in enumerate(history):
        real = (step + 1) % accumulation == 0 or step == total - 1
        tau = linear_momentum(step // accumulation, total // accumulation, 0.9)
        for name in (n for n, p in runner.model.named_parameters() if n.startswith("target_")):
            source = after[name.removeprefix("target_")]
            if not real:
                assert torch.equal(after[name], before[name]), "moved between optimizer steps"
            else:
                want = tau * before[name] + (1 - tau) * source
                assert torch.allclose(after[name], want, atol=1e-6), (step, name)
        if real:
            assert momentum == pytest.approx(tau)
            moved += 1
        before = after
    assert moved == -(-total // accumulation)
    assert history[-1][1] == 1.0


def test_buffers_are_not_averaged_or_copied(tmp_path):
    runner = run(tiny_digits(), tmp_path)
    own = runner.model.head.projector[1]
    target = runner.model.target_head.projector[1]
    iterations = runner.iter
    assert target.num_batches_tracked == iterations
    assert own.num_batches_tracked == 2 * iterations
    assert not torch.allclose(own.running_mean, target.running_mean)


def test_a_model_without_target_is_refused(tmp_path):
    class Fake:
        model = torch.nn.Linear(1, 1)

    with pytest.raises(UserError, match="Linear has none"):
        EMAHook().before_train(Fake())
    with pytest.raises(ValueError, match=r"momentum is 1\.5"):
        EMAHook(momentum=1.5)
