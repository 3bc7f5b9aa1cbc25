"""A training step asks the device nothing: run on one that cannot answer.

torch's meta device computes shapes and no values, so whatever would make the host
wait for a GPU (``item``, ``bool``, ``tolist``, ``cpu``, ``nonzero``) fails there. What
is read on purpose, some steps later, goes through ``HostCopy``.
"""

from __future__ import annotations

import copy
import json
import sys
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, MessageHub
from torch.utils._python_dispatch import TorchDispatchMode

from msn_mm.engine import deferred_scalars, host_copy
from msn_mm.engine.deferred_scalars import DeferredHistory, log_scalars
from msn_mm.engine.host_copy import LAG
from msn_mm.engine.launch import build_runner
from tests.helpers import run, tiny_digits, weights

# Passes after which all that is made once is there, two of them a step.
WARM = 2


class Clock(Hook):
    """The number of the step that is under way."""

    now = 0

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        Clock.now = runner.iter


class Arriving:
    """An event that notes when somebody waits for it, and how many steps after its copy."""

    waits: list[tuple[int, int]] = []

    def __init__(self) -> None:
        self.begun = Clock.now

    def synchronize(self) -> None:
        Arriving.waits.append((Clock.now, Clock.now - self.begun))


class BlockingCopies(TorchDispatchMode):
    """Notes what goes from the host to the device in a way that waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.met: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if Clock.now < WARM or not isinstance(out, torch.Tensor) or not out.is_meta:
            return out
        source = args[1] if name == "copy_" else args[0] if args else None
        from_host = isinstance(source, torch.Tensor) and not source.is_meta and source.ndim > 0
        blocking = not ((kwargs or {}).get("non_blocking") or (name == "copy_" and args[2:]))
        if name == "lift_fresh" or (from_host and blocking and name in ("_to_copy", "copy_")):
            self.met.append(f"{name} {tuple(out.shape)}")
        return out


@pytest.fixture
def far_device(monkeypatch):
    """Train on the meta device, whose copies to the host arrive as zeros."""

    def start(tensor):
        far = tensor.is_meta
        host = torch.zeros(tensor.shape, dtype=tensor.dtype) if far else tensor
        return host, Arriving() if far else None

    monkeypatch.setattr("mmengine.runner.runner.get_device", lambda: "meta")
    monkeypatch.setattr(host_copy, "_start", start)
    optimizer = sys.modules["torch.optim.optimizer"]  # torch.optim hides it
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["meta"])
    # MMEngine logs each weight's mean there.
    monkeypatch.setattr("mmengine.runner.Runner._init_model_weights", lambda runner: None)
    # It has no autocast, not even to be switched off.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(deferred_scalars, "_WAITING", LAG + 2)
    monkeypatch.setattr(Clock, "now", 0)
    monkeypatch.setattr(Arriving, "waits", [])


@pytest.mark.parametrize(
    ("options", "iterations"),
    [
        ({"model.backbone.drop_path_rate": 0.2}, 8),
        ({"optim_wrapper.clip_grad": dict(type="each", max_norm=3.0), "accumulation": 2}, 16),
    ],
)
def test_no_step_waits_for_the_device(tmp_path, far_device, options, iterations):
    cfg = tiny_digits(
        **{
            "train_cfg.max_epochs": 1,
            "train_dataloader.dataset.dataset.indices": 128,
            "default_hooks.logger.interval": 1000,
            "default_hooks.checkpoint": None,
            "optim_wrapper.clip_grad": dict(max_norm=3.0),
            **options,
        }
    )
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.train_cfg.pop("val_interval")
    cfg.param_scheduler = []
    runner = build_runner(cfg, work_dir=tmp_path)
    runner.register_hook(Clock(), priority="VERY_HIGH")
    with BlockingCopies() as copies:
        runner.train()
    assert runner.iter == iterations
    assert next(runner.model.parameters()).is_meta
    assert copies.met == []
    # What is read before the log at the epoch's end is old.
    before = [age for step, age in Arriving.waits if step < iterations - 1]
    assert before and min(before) >= LAG
    scalars = runner.message_hub.log_scalars
    assert len(scalars["train/loss"].data[0]) == iterations
    assert len(scalars["train/grad_norm"].data[0]) == 8


@pytest.mark.parametrize("what", ["item", "list", "bool"])
def test_a_wait_would_be_met(tmp_path, far_device, monkeypatch, what):
    asks = {
        "item": lambda x: x.sum().item(),
        "list": lambda x: torch.tensor([1.0, 2.0], device=x.device),
        "bool": lambda x: x[x > 0],
    }
    x = torch.ones(3, device="meta")
    Clock.now = WARM
    with BlockingCopies() as copies:
        try:
            asks[what](x)
        except (RuntimeError, NotImplementedError) as error:
            copies.met.append(str(error))
    assert copies.met


def as_if_far(monkeypatch):
    """Let what is logged on a CPU take a GPU's way."""
    monkeypatch.setattr(host_copy, "_start", lambda tensor: (tensor, Arriving()))
    monkeypatch.setattr(deferred_scalars, "_is_away", lambda value: True)
    monkeypatch.setattr(deferred_scalars, "_WAITING", LAG + 2)
    monkeypatch.setattr(Arriving, "waits", [])


def log_of(folder):
    """The log's lines of training without clock and speed, and all histories."""
    lines = [
        json.loads(line)
        for file in folder.glob("*/vis_data/scalars.json")
        for line in file.read_text().splitlines()
    ]
    clocks = ("time", "data_time", "val/time", "val/data_time", "images_per_s", "memory")
    return [{k: v for k, v in line.items() if k not in clocks} for line in lines]


def test_the_log_and_a_resumed_history_are_the_same(tmp_path, monkeypatch):
    options = {
        "default_hooks.checkpoint.interval": 1,
        "default_hooks.logger.interval": 3,
        "optim_wrapper.clip_grad": dict(max_norm=3.0),
    }
    near = run(tiny_digits(**options), tmp_path / "near")
    as_if_far(monkeypatch)
    far = run(tiny_digits(**options), tmp_path / "far")
    assert isinstance(far.message_hub.log_scalars["train/loss"], DeferredHistory)
    assert log_of(tmp_path / "near") == log_of(tmp_path / "far") != []
    saved = tmp_path / "far" / "epoch_2.pth"
    resumed = run(tiny_digits(**options), tmp_path / "resumed", resume=saved)
    for name in ("loss", "loss_msn", "grad_norm", "lr", "ema_momentum"):
        wanted, *others = (
            r.message_hub.log_scalars[f"train/{name}"].data for r in (near, far, resumed)
        )
        assert len(wanted[0]) == 12
        for found in others:
            assert np.array_equal(wanted[0], found[0]) and np.array_equal(wanted[1], found[1])
    assert all(
        torch.equal(a, b)
        for a, b in zip(weights(near).values(), weights(resumed).values(), strict=True)
    )


def test_a_history_keeps_its_order_and_its_length(monkeypatch):
    as_if_far(monkeypatch)
    hub = MessageHub.get_instance("test_a_history_keeps_its_order")
    hub.update_scalar("x", -1.0)
    for number in range(LAG + 1):
        log_scalars(hub, {"x": torch.tensor(float(number)), "y": torch.tensor(0.5).double()})
    assert Arriving.waits == []
    hub.log_scalars["x"].update(9.0)
    assert Arriving.waits != []
    log_scalars(hub, {"x": torch.tensor(0.1)})
    history = hub.get_scalar("x")
    third = float(torch.tensor(0.1))
    assert history.data[0].tolist() == [-1.0, *map(float, range(LAG + 1)), 9.0, third]
    assert history.data[1].tolist() == [1] * (LAG + 4)
    log_scalars(hub, {"x": torch.tensor(7.0)})
    twin = copy.deepcopy(history)
    assert type(twin) is HistoryBuffer and twin.current() == history.current() == 7.0
    history.max_length = 2
    for number in range(20):
        log_scalars(hub, {"x": torch.tensor(float(number))})
    assert history.data[0].tolist() == [18.0, 19.0] and history.mean() == 18.5
    assert hub.state_dict()["resumed_keys"]["y"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_no_step_waits_for_a_gpu(tmp_path):
    class Strict(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            torch.cuda.set_sync_debug_mode("error" if runner.iter > 1 else "default")

        def after_train_epoch(self, runner):
            torch.cuda.set_sync_debug_mode("default")

    cfg = tiny_digits(
        **{
            "train_cfg.max_epochs": 1,
            "default_hooks.logger.interval": 1000,
            "train_dataloader.dataset.dataset.indices": 192,
            "train_dataloader.pin_memory": True,
            "model.backbone.drop_path_rate": 0.2,
        }
    )
    cfg.default_hooks.logger.ignore_last = True
    runner = build_runner(cfg, work_dir=tmp_path)
    runner.register_hook(Strict(), priority="VERY_HIGH")
    try:
        runner.train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert runner.iter == 12
