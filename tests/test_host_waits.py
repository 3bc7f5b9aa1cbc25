"""A training step asks the device nothing: run on one that cannot answer.

torch's meta device computes shapes and no values, so whatever would make the host
wait for a GPU (``item``, ``bool``, ``tolist``, ``cpu``, ``nonzero``) fails there. What
is read on purpose, some steps later, goes through ``HostCopy``.
"""

from __future__ import annotations

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
from msn_mm.engine.host_copy import LAG, HostCopy
from msn_mm.engine.launch import build_runner
from tests.helpers import run, tiny_digits, weights


class Clock(Hook):
    """The number of the step that is under way."""

    now = 0

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        Clock.now = runner.iter


class Arriving:
    """An event that notes how many steps after its copy somebody waits for it."""

    waits: list[int] = []

    def __init__(self) -> None:
        self.begun = Clock.now

    def synchronize(self) -> None:
        Arriving.waits.append(Clock.now - self.begun)


class BlockingCopies(TorchDispatchMode):
    """Notes what goes from the host to the device in a way that waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.met: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if Clock.now == 0 or not isinstance(out, torch.Tensor) or not out.is_meta:
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
    monkeypatch.setattr(
        "torch.optim.optimizer._get_fused_kernels_supported_devices", lambda: ["meta"]
    )
    # It has no autocast, not even to be switched off.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(Clock, "now", 0)
    monkeypatch.setattr(Arriving, "waits", [])


def training(tmp_path, **options):
    cfg = tiny_digits(
        **{
            "train_cfg.max_epochs": 3,
            "default_hooks.logger.interval": 1000,
            "default_hooks.checkpoint": None,
            "optim_wrapper.clip_grad": dict(max_norm=3.0),
            **options,
        }
    )
    runner = build_runner(cfg, work_dir=tmp_path)
    runner.register_hook(Clock(), priority="VERY_HIGH")
    return runner


@pytest.mark.parametrize(
    "options",
    [
        {"model.backbone.drop_path_rate": 0.2},
        {"optim_wrapper.clip_grad": dict(type="each", max_norm=3.0), "accumulation": 2},
    ],
)
def test_no_step_waits_for_the_device(tmp_path, far_device, options):
    runner = training(tmp_path, **options)
    with BlockingCopies() as copies:
        runner.train()
    assert runner.iter == 12
    assert next(runner.model.parameters()).is_meta
    assert copies.met == []
    # The guard reads old answers; the log, its own at the end of each epoch.
    assert all(age >= LAG for age in Arriving.waits[: 4 - LAG])
    hub = runner.message_hub
    assert len(hub.get_scalar("train/loss").data[0]) == 12
    assert len(hub.get_scalar("train/grad_norm").data[0]) in (12, 6)
