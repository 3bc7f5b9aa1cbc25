"""A step whose loss or gradients are not finite changes nothing, whoever is to blame."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from msn_mm.engine.checkpointing import find_resumable
from msn_mm.engine.hooks.non_finite_steps_hook import NonFiniteStepsHook
from msn_mm.engine.launch import build_runner
from msn_mm.engine.optim.finite_guard import FiniteGuard
from msn_mm.errors import UserError
from msn_mm.models.ops.ema import ema_update_
from msn_mm.models.ops.finite import magnitude, magnitudes
from tests.helpers import leaving_group, run, tiny_digits, weights
from tests.two_processes import start_two

NAN = float("nan")


class Poison(Hook):
    """Make one quantity not finite at chosen iterations (counted from 0)."""

    priority = "VERY_HIGH"

    def __init__(self, what: str, iterations: set[int]) -> None:
        self.what = what
        self.iterations = iterations
        self.handles: list[Any] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter not in self.iterations:
            return
        model = getattr(runner.model, "module", runner.model)
        if self.what == "views":
            self.handles.append(model.data_preprocessor.register_forward_hook(_spoil_views))
        elif self.what == "representations":
            self.handles.append(model.backbone.register_forward_hook(lambda _, __, z: z * NAN))
        elif self.what == "loss":
            self.handles.append(
                model.register_forward_hook(
                    lambda _, __, out: {**out, "loss_msn": out["loss_msn"] * NAN}
                )
            )
        else:
            parameter = dict(model.named_parameters())[self.what]
            self.handles.append(parameter.register_hook(lambda g: g + float("inf")))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        while self.handles:
            self.handles.pop().remove()


def _spoil_views(_: nn.Module, __: Any, out: dict[str, Any]) -> None:
    out["inputs"]["anchor"]["images"][0, 0, 0, 0] = NAN


def state(runner: Runner) -> dict[str, torch.Tensor]:
    """Everything that a skipped step must leave alone: the model and the optimizer's moments."""
    moments = {
        f"optimizer.{number}.{name}": value.clone()
        for number, values in runner.optim_wrapper.optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    return {**weights(runner), **moments}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def poisoned(
    tmp_path: Path, what: str, iterations: set[int], **options: Any
) -> tuple[Runner, list[dict[str, torch.Tensor]]]:
    """Train with a poison and return the runner and the state after each iteration."""
    runner = build_runner(tiny_digits(**options), work_dir=tmp_path)
    runner.register_hook(Poison(what, iterations))
    seen: list[dict[str, torch.Tensor]] = []
    runner.register_hook(_Each(lambda: seen.append(state(runner))))
    runner.train()
    return runner, seen


class _Each(Hook):
    priority = "LOWEST"

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.look()


def log_of(tmp_path: Path) -> str:
    return "".join(path.read_text() for path in tmp_path.rglob("*.log"))


GRADIENT = "backbone.vit.blocks.1.mlp.fc1.weight"


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("views", "the views"),
        ("representations", "the anchors' representations"),
        ("loss", "the loss"),
        (GRADIENT, f"the gradient of {GRADIENT}"),
        ("head.prototypes", "the gradient of head.prototypes"),
    ],
)
def test_a_step_that_is_not_finite_changes_nothing(tmp_path, what, named):
    runner, seen = poisoned(tmp_path, what, {2, 3, 7})
    for step in range(1, len(seen)):
        assert equal(seen[step], seen[step - 1]) == (step in {2, 3, 7}), step
    assert all(bool(value.isfinite().all()) for value in seen[-1].values())
    assert runner.message_hub.get_scalar("train/skipped_steps").current() == 3
    said = log_of(tmp_path)
    assert said.count(f"not finite at iteration 3: {named}; the step is skipped") == 1
    assert said.count(f"not finite at iteration 8: {named};") == 1
    assert "iteration 4:" not in said  # told once a row
    assert "nan" not in said


def test_a_run_without_trouble_is_bitwise_the_unguarded_one(tmp_path):
    cfg = tiny_digits()
    guarded = run(cfg, tmp_path / "a")
    cfg.default_hooks.pop("non_finite_steps")
    bare = run(cfg, tmp_path / "b")
    assert bare.optim_wrapper.skipped is None and guarded.optim_wrapper.skipped is not None
    assert equal(state(guarded), state(bare))
    assert "train/skipped_steps" not in guarded.message_hub.log_scalars


def test_the_device_s_own_way_gives_the_same_weights(tmp_path, monkeypatch):
    """Fused AdamW and the target take the flag as a tensor; the host reads it only to tell."""
    host, told = poisoned(tmp_path / "host", GRADIENT, {0, 5})
    wrapper = type(host.optim_wrapper)
    monkeypatch.setattr(wrapper, "_host_decides", lambda *_: False)
    monkeypatch.setattr("msn_mm.engine.hooks.ema_hook._on_host", lambda _: False)
    _, seen = poisoned(tmp_path / "device", GRADIENT, {0, 5})
    assert equal(seen[5], seen[4]) and not equal(seen[6], seen[5])
    # Skipped first, then taken. Only the target's update rounds otherwise, and
    # from the next step on that shows in everything.
    assert seen[1].keys() == told[1].keys()
    for name, value in seen[1].items():
        if name.startswith("target_"):
            assert torch.allclose(value, told[1][name], rtol=1e-6, atol=1e-7), name
        else:
            assert torch.equal(value, told[1][name]), name


def test_an_accumulated_step_is_skipped_whole(tmp_path):
    # 64 images, 4 a micro-batch, 4 accumulated: iterations 4 to 7 are one step.
    runner, seen = poisoned(tmp_path, "representations", {5}, accumulation=4)
    assert equal(seen[7], seen[3]), "weights, moments, target and statistics of all four"
    assert not equal(seen[11], seen[7])
    assert runner.message_hub.get_scalar("train/skipped_steps").current() == 1


@leaving_group()
def _one_of_two(rank: int, port: int, folder: str) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
        LOCAL_WORLD_SIZE="2",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    cfg = tiny_digits()
    cfg.default_hooks.non_finite_steps.max_in_a_row = 3
    runner = build_runner(cfg, work_dir=folder, launcher="pytorch")
    seen: list[dict[str, torch.Tensor]] = []
    if rank == 1:
        runner.register_hook(Poison("views", {1, 5, 6, 7}))
    runner.register_hook(_Each(lambda: seen.append(state(runner))))
    said = None
    try:
        runner.train()
    except UserError as error:
        said = str(error)
    hook = next(h for h in runner.hooks if isinstance(h, NonFiniteStepsHook))
    torch.save({"seen": seen, "said": said, "total": hook.total}, f"{folder}/{rank}.pt")


@pytest.mark.slow
def test_all_ranks_skip_and_stop_together(tmp_path):
    start_two(_one_of_two, str(tmp_path))
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert len(one["seen"]) == len(two["seen"]) == 7
    for step in range(1, 7):
        for rank in (one, two):
            assert equal(rank["seen"][step], rank["seen"][step - 1]) == (step in {1, 5, 6}), step
        assert equal(one["seen"][step], two["seen"][step])
    assert one["said"] == two["said"] and one["total"] == two["total"] == 4
    assert "3 steps in a row were not finite, the first at iteration 6" in one["said"]
    assert "first of all the views" in one["said"]


@pytest.mark.parametrize(
    ("what", "named", "mend"),
    [
        ("views", "the views", "data_preprocessor"),
        (GRADIENT, f"the gradient of {GRADIENT}", "lower the learning rate, raise model.mask_rat"),
    ],
)
def test_too_many_in_a_row_stop_the_run(tmp_path, what, named, mend):
    cfg = tiny_digits()
    cfg.default_hooks.non_finite_steps.max_in_a_row = 3
    runner = build_runner(cfg, work_dir=tmp_path)
    # Two in a row are too few; epochs have four iterations, with a checkpoint after each.
    runner.register_hook(Poison(what, {1, 2, 4, 6, 7, 8, 9}))
    before: list[dict[str, torch.Tensor]] = []
    runner.register_hook(_Each(lambda: before.append(state(runner))))
    cfg_interval = next(h for h in runner.hooks if type(h).__name__ == "SafeCheckpointHook")
    cfg_interval.interval = 1
    with pytest.raises(UserError) as caught:
        runner.train()
    said = str(caught.value)
    assert said.startswith("3 steps in a row were not finite, the first at iteration 7, there ")
    assert f"there first of all {named};" in said and mend in said
    assert "the newest checkpoint is epoch_2.pth" in said and "\n" not in said
    assert "--amp" not in said
    assert runner.iter == 8 and equal(state(runner), before[5])
    kept = torch.load(find_resumable(tmp_path)[0], weights_only=True)
    assert all(bool(value.isfinite().all()) for value in kept["state_dict"].values())


def test_bfloat16_is_among_the_knobs_when_it_is_on(tmp_path):
    cfg = tiny_digits()
    cfg.default_hooks.non_finite_steps.max_in_a_row = 2
    runner = build_runner(cfg, work_dir=tmp_path, amp=True)
    runner.register_hook(Poison("loss", set(range(100))))
    with pytest.raises(UserError, match=r"iteration 1, .* no checkpoint yet; .*bfloat16 \(--amp\)"):
        runner.train()


def test_a_weight_that_is_not_finite_is_named_as_the_cause(tmp_path):
    cfg = tiny_digits()
    cfg.default_hooks.non_finite_steps.max_in_a_row = 2
    runner = build_runner(cfg, work_dir=tmp_path)
    dict(runner.model.named_parameters())[GRADIENT].data[0, 0] = float("inf")
    with pytest.raises(UserError, match=rf"representations, because the weight {GRADIENT} is not"):
        runner.train()


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    cfg = tiny_digits()
    cfg.default_hooks.checkpoint.interval = 1
    runner = build_runner(cfg, work_dir=tmp_path)

    def spoil() -> None:
        if runner.iter == 7:  # the last of epoch 2, behind the guard's back
            dict(runner.model.named_parameters())[GRADIENT].data[0, 0] = NAN

    hook = _Each(spoil)
    hook.priority = "NORMAL"
    runner.register_hook(hook)
    with pytest.raises(UserError, match=rf"state_dict {GRADIENT} is not finite; .*epoch_1\.pth"):
        runner.train()
    assert not (tmp_path / "epoch_2.pth").exists()


class _Killed(Exception):
    """Stands for the end of a process."""


def _late(self: FiniteGuard, wait: bool = False) -> Any:
    """A verdict as a GPU gives it: some steps later."""
    return READ(self, wait) if wait or len(self._pending) > 2 else None


READ = FiniteGuard.read


@pytest.mark.parametrize("late", [False, True])
def test_a_row_goes_on_over_a_resume(tmp_path, monkeypatch, late):
    if late:
        monkeypatch.setattr(FiniteGuard, "read", _late)
    cfg = tiny_digits()
    cfg.default_hooks.non_finite_steps.max_in_a_row = 4
    cfg.default_hooks.checkpoint.every_iters = 1
    runner = build_runner(cfg, work_dir=tmp_path)
    bad = {1, 5, 6, 7, 8, 9, 10}
    runner.register_hook(Poison("views", bad))

    def kill() -> None:
        if runner.iter == 6:
            raise _Killed

    runner.register_hook(_Each(kill))
    with pytest.raises(_Killed):
        runner.train()
    saved = torch.load(tmp_path / "iter_7.pth", weights_only=True)["hooks"][0]
    held = saved["NonFiniteStepsHook"]
    assert (held["in_a_row"], held["total"], held["first"]) == (2, 3, 6)
    assert held["culprit"] == "the views" and bool(held["last"]["loss"].isfinite())
    runner = build_runner(cfg, work_dir=tmp_path, resume=True)
    runner.register_hook(Poison("representations", bad))
    losses = []

    class Look(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
            losses.append(outputs["loss"])

    runner.register_hook(Look())
    with pytest.raises(UserError) as caught:
        runner.train()
    assert str(caught.value).startswith(
        "4 steps in a row were not finite, the first at iteration 6, there first of all the views;"
    )
    # iterations 8 and 9 of the run are the row's third and fourth
    assert runner.iter == 8 + 2 * late
    assert next(h for h in runner.hooks if isinstance(h, NonFiniteStepsHook)).total == 5
    assert losses and all(torch.equal(loss, held["last"]["loss"]) for loss in losses)


def test_an_older_checkpoint_s_count_goes_on():
    hook = NonFiniteStepsHook()
    hook.load_state_dict({"total": 4})
    assert hook.total == 4 and hook.state_dict()["in_a_row"] == 0
    with pytest.raises(ValueError, match="max_in_a_row"):
        NonFiniteStepsHook(max_in_a_row=0)


def test_another_optimizer_wrapper_is_told_about(tmp_path):
    cfg = tiny_digits()
    cfg.optim_wrapper.type = "OptimWrapper"
    runner = run(cfg, tmp_path)
    assert "are not skipped: optim_wrapper.type is OptimWrapper" in log_of(tmp_path)
    assert runner.iter == 12


def test_a_guard_sees_batch_norm_and_gradients_of_any_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).train()
    before = copy.deepcopy(model.state_dict())
    guard = FiniteGuard()
    for poison, expected in ((0.0, False), (NAN, True)):
        guard.begin(model)
        model.zero_grad()
        loss = model(torch.randn(5, 3)).sum()
        guard.watch([("the loss", loss)])
        loss.backward()
        model[0].weight.grad[1, 1] += poison
        assert bool(guard.judge()) is expected
        guard.undo(guard.skipped) if not expected else guard.undo()
        verdict = guard.read()
        assert verdict.in_a_row == verdict.total == expected
        if not expected:
            assert not torch.equal(model.state_dict()["1.running_mean"], before["1.running_mean"])
            before = copy.deepcopy(model.state_dict())
        else:
            assert verdict.culprit == "the gradient of 0.weight"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_magnitudes(dtype):
    torch.manual_seed(0)
    tensors = [torch.randn(3, 4).to(dtype), torch.randn(7).to(dtype), torch.zeros(0, dtype=dtype)]
    for got, tensor in zip(magnitudes(tensors), tensors, strict=True):
        assert got.dtype == (dtype if dtype == torch.float64 else torch.float32)
        assert float(got) == pytest.approx(float(tensor.double().square().sum().sqrt()), rel=1e-6)
    for value in (NAN, float("inf"), -float("inf")):
        tensors[1][3] = value
        assert [bool(m.isfinite()) for m in magnitudes(tensors)] == [True, False, True]
        assert not magnitude(*tensors).isfinite()
    mixed = magnitudes([torch.ones(4), torch.full((4,), 1e150, dtype=torch.float64)])
    assert float(mixed[1]) == pytest.approx(2e150)


@pytest.mark.parametrize("part", [1, 20, 2**23])
def test_the_target_s_update_takes_a_flag(monkeypatch, part):
    monkeypatch.setattr("msn_mm.models.ops.ema._PART", part)
    torch.manual_seed(0)
    sources = [torch.randn(3, 4), torch.randn(5), torch.randn(9, dtype=torch.float64)]
    start = [torch.randn_like(source) for source in sources]
    plain, flagged, frozen = ([t.clone() for t in start] for _ in range(3))
    ema_update_(plain, sources, 0.9)
    ema_update_(flagged, sources, 0.9, torch.tensor(False))
    ema_update_(frozen, sources, 0.9, torch.tensor(True))
    for k in range(3):
        assert torch.allclose(plain[k], flagged[k], rtol=1e-6, atol=1e-7)
        assert torch.equal(frozen[k], start[k]) and not torch.equal(plain[k], start[k])
