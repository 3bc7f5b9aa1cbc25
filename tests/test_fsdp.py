"""Shards over two processes train as copies do, and their checkpoints are the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from msn_mm.engine.distributed import World
from msn_mm.engine.fsdp.shards import gather
from msn_mm.engine.fsdp.units import units
from msn_mm.engine.fsdp.wrapper import FullyShardedModel
from msn_mm.engine.micro_batch import least_of_processes
from msn_mm.engine.optim.decay_groups import decay_groups
from msn_mm.models.ops.compiled_blocks import compile_blocks_
from msn_mm.models.ops.distributed import local_part
from msn_mm.models.ops.ema import ema_update_, linear_momentum
from tests.helpers import leaving_group
from tests.test_distributed import STEPS, make_batch
from tests.two_processes import start_two


@leaving_group()
def worker(
    rank: int, port: int, what: Callable[..., Any], arguments: list[tuple[Any, ...]], folder: str
) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ.update({name: str(value) for name, value in place.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES="")
    # Starting processes takes most of the time, so several runs share them.
    torch.save([what(*each) for each in arguments], Path(folder) / f"{rank}.pt")


def on_two(what: Callable[..., Any], *arguments: tuple[Any, ...], folder: Path) -> list[Any]:
    """Run ``what`` on two processes for each of ``arguments``: results by rank, then by run."""
    start_two(worker, what, list(arguments), str(folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def make_model(
    checkpointing: bool = False, compiled: bool = False, micro_batch: int | None = None
) -> torch.nn.Module:
    from tests.models.test_msn import tiny_msn

    loss = dict(type="MSNLoss", sinkhorn_iterations=3)
    model = tiny_msn(loss=loss, micro_batch=micro_batch).double().train()
    model.backbone.checkpointing = checkpointing
    for trunk in (model.backbone, model.target_backbone) if compiled else ():
        compile_blocks_(trunk.vit.blocks, "eager")
    return model


def train(
    wrapping: str,
    clip: float,
    checkpointing: bool,
    compiled: bool,
    micro_batch: int | None = None,
) -> dict[str, Any]:
    """Four steps in float64 by the parts: wrapper, clipping, optimizer, moving average."""
    if wrapping != "none" and not dist.is_initialized():
        dist.init_process_group("gloo")
    rank, world = (dist.get_rank(), 2) if wrapping != "none" else (0, 1)
    model = make_model(checkpointing, compiled and wrapping != "none", micro_batch)
    wrapped: torch.nn.Module = model
    if wrapping == "ddp":
        wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    if wrapping == "fsdp":
        wrapped = FullyShardedModel(model)
        assert all(isinstance(p, DTensor) for p in model.parameters())
        # Half of the elements: what does not divide into two lies on the first.
        held = sum(local_part(p).numel() for p in model.parameters())
        assert held < 0.6 * sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.SGD(decay_groups(model), lr=0.1, momentum=0.9, weight_decay=0.04)
    pairs = [
        (
            [local_part(p.detach()) for p in source.parameters()],
            [local_part(p.detach()) for p in target.parameters()],
        )
        for source, target in model.ema_pairs()
    ]
    losses = []
    for step in range(STEPS):
        out = wrapped(make_batch(step, rank, world), mode="loss")
        loss = out["loss_msn"] + out["loss_me_max"]
        optimizer.zero_grad()
        loss.backward()
        trained = [p for p in model.parameters() if p.grad is not None]
        torch.nn.utils.clip_grad_norm_(trained, clip)
        optimizer.step()
        for source, target in pairs:
            ema_update_(target, source, linear_momentum(step, STEPS, 0.9))
        mean = torch.stack([out["loss_msn"], out["loss_me_max"]]).detach()
        if world > 1:
            dist.all_reduce(mean)
        losses.append(mean / world)
    state = model.state_dict()
    if world > 1:
        state = gather(state)
    return {
        "losses": torch.stack(losses),
        "state": dict(state),
        "moments": momenta(optimizer),
        "least": least_of_processes(7 - 2 * rank, World(world, rank)),
    }


def momenta(optimizer: torch.optim.Optimizer) -> dict[int, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    if dist.is_initialized():
        state = gather(state)
    return {k: v["momentum_buffer"] for k, v in state.items()}


def test_shards_copies_and_one_process_train_alike(tmp_path: Path) -> None:
    # Unclipped; clipped at every step, with blocks compiled and recomputed in the backward pass;
    # in micro-batches, which 4 and 12 views of a process do not all fill.
    settings = [(1e9, False, False), (0.05, True, True), (1e9, False, False, 3)]
    runs = [(wrapping, *setting) for setting in settings for wrapping in ("fsdp", "ddp")]
    ranks = on_two(train, *runs, folder=tmp_path)
    for number, (_, *setting) in enumerate(runs):
        one, two = train("none", *setting[:3]), ranks[0][number]
        assert [rank[number]["least"] for rank in ranks] == [5, 5]
        assert torch.allclose(two["losses"], one["losses"], atol=1e-11, rtol=0)
        assert two["state"].keys() == one["state"].keys()
        for name, value in one["state"].items():
            assert torch.allclose(two["state"][name].double(), value.double(), atol=1e-10), name
        assert two["moments"].keys() == one["moments"].keys()
        for parameter, value in one["moments"].items():
            assert torch.allclose(two["moments"][parameter], value, atol=1e-9)
    # Only the first process ever holds the whole.
    assert sum(v.numel() for v in ranks[1][0]["state"].values()) == 0


def test_every_block_of_both_trunks_is_a_unit() -> None:
    model = make_model()
    depth = len(model.backbone.vit.blocks)
    found = list(units(model))
    assert len(found) == 2 * depth
    assert {id(unit) for unit in found} == {
        id(block) for trunk in (model.backbone, model.target_backbone) for block in trunk.vit.blocks
    }


def run_tiny(
    work_dir: str, launcher: str, wrapper: str | None, resume: str | None, amp: bool = False
) -> dict[str, Any]:
    """Train the tiny digits; save once more as soon as the checkpoint to resume from is loaded."""
    from msn_mm.engine.launch import build_runner, train
    from tests.helpers import Watch, tiny_digits

    cfg = tiny_digits(**{"train_cfg.max_epochs": 2, "default_hooks.checkpoint.interval": 1})
    cfg.optim_wrapper.clip_grad = dict(max_norm=3.0)
    cfg.model.backbone.checkpointing = amp
    cfg.train_cfg.val_begin = 1 if launcher == "pytorch" and wrapper else 3
    if wrapper is not None:
        cfg.model_wrapper_cfg = dict(type=wrapper)
    losses: list[float] = []
    runner = build_runner(
        cfg, launcher=launcher, work_dir=work_dir, resume=resume or False, amp=amp
    )
    look = Watch(lambda _, outputs: losses.append(outputs["loss"].item()))
    look.before_train = lambda runner: runner.save_checkpoint(work_dir, "loaded.pth")
    runner.register_hook(look)
    train(runner)
    return {
        "losses": losses,
        "kind": type(runner.model).__name__,
        "settings": dict(runner.cfg.get("model_wrapper_cfg") or {}),
        "dtypes": sorted({str(p.dtype) for p in runner.model.parameters()}),
    }


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def assert_same_state(a: Path, b: Path) -> None:
    first, second = load(a), load(b)
    assert first["state_dict"].keys() == second["state_dict"].keys()
    for name, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][name]), name
    groups = [saved["optimizer"]["param_groups"] for saved in (first, second)]
    assert [g["params"] for g in groups[0]] == [g["params"] for g in groups[1]]
    states = [saved["optimizer"]["state"] for saved in (first, second)]
    assert states[0].keys() == states[1].keys()
    for number, moments in states[0].items():
        for name, value in moments.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(states[1][number][name]))


@pytest.mark.slow
def test_checkpoints_with_and_without_shards_load_in_each_other(tmp_path: Path) -> None:
    one, two, copied, back = (tmp_path / name for name in ("one", "two", "copies", "back"))
    alone = run_tiny(str(one), "none", "FullyShardedModel", None)
    assert alone["kind"] == "MSN"
    started = str(one / "epoch_1.pth")
    # The same epoch with shards and without, from the same file.
    runs = [
        (str(two), "pytorch", "FullyShardedModel", started),
        (str(copied), "pytorch", None, started),
        (str(tmp_path / "amp"), "pytorch", "FullyShardedModel", started, True),
        (str(tmp_path / "amp_copies"), "pytorch", None, started, True),
        # Each goes on from what the other wrote.
        (str(tmp_path / "sharded"), "pytorch", "FullyShardedModel", str(copied / "epoch_2.pth")),
        (str(tmp_path / "copied"), "pytorch", None, str(two / "epoch_2.pth")),
    ]
    for sharded, copies, amp, amp_copies, *_ in on_two(run_tiny, *runs, folder=tmp_path):
        assert sharded["kind"] == "FullyShardedModel"
        assert copies["kind"] == "MMDistributedDataParallel"
        assert len(sharded["losses"]) == 4
        assert sharded["losses"] == pytest.approx(copies["losses"], rel=1e-5)
        # --amp: the blocks compute in bfloat16, the shards stay as they are.
        assert amp["settings"]["param_dtype"] == "bfloat16"
        assert amp["dtypes"] == ["torch.float32"]
        assert amp["losses"] != pytest.approx(copies["losses"], rel=1e-5)
        assert amp["losses"] == pytest.approx(amp_copies["losses"], rel=1e-4)
    assert_same_state(one / "epoch_1.pth", two / "loaded.pth")
    assert_same_state(copied / "epoch_2.pth", tmp_path / "sharded" / "loaded.pth")
    assert_same_state(two / "epoch_2.pth", tmp_path / "copied" / "loaded.pth")
    # And one process goes on from the shards' file.
    run_tiny(str(back), "none", None, str(two / "epoch_2.pth"))
    assert_same_state(two / "epoch_2.pth", back / "loaded.pth")
    moved = load(two / "epoch_2.pth")["state_dict"]["target_backbone.vit.cls_token"]
    assert not torch.equal(moved, load(started)["state_dict"]["target_backbone.vit.cls_token"])
