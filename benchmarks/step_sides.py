"""One side of train_step.py in a process of its own, so that neither profits from the other.

Started as ``python step_sides.py SIDE SETTINGS`` it answers each line that it reads with one
line of JSON: ``step`` and ``product`` with seconds, ``about`` with all that is counted.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from plain_msn import PlainMSN
from timing import seconds_of
from torch.utils.flop_counter import FlopCounterMode

from msn_mm.engine.launch import load_config
from msn_mm.engine.optim.finite_guard import FiniteGuard
from msn_mm.models.ops.compiled_blocks import compile_blocks_
from msn_mm.models.ops.ema import ema_update_
from msn_mm.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from msn_mm.utils.host_memory import keep_freed_memory

SIDES = ("ours", "plain")
MOMENTUM = 0.996
# Of MaskedViT's arguments those that timm does not have.
OWN = ("type", "name", "checkpointing", "compile", "resampling", "norm_eps", "_scope_")


def make_views(cfg: Any, batch: int, device: torch.device) -> dict[str, dict[str, torch.Tensor]]:
    """Return random views of a config's sizes, as the preprocessor hands them on."""
    channels, views = len(cfg.model.data_preprocessor["mean"]), {}
    for name, view in cfg.train_dataloader.dataset.transform.views.items():
        rows = batch * view.get("num", 1)
        views[name] = {
            "images": torch.randn(rows, channels, view.size, view.size, device=device),
            "key": torch.randint(0, 2**32, (rows,), device=device),
        }
    return views


def ours(
    cfg: Any, batch: int, device: torch.device, amp: bool, compiled: bool
) -> tuple[Callable[[], object], int]:
    """Return a step of this project, guard and statistics included, and its operations."""
    if device.type == "cpu":
        keep_freed_memory()
    model = MODELS.build(cfg.model).to(device).train()
    settings = {**cfg.optim_wrapper, "type": "AmpGroupOptimWrapper" if amp else "GroupOptimWrapper"}
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.get(settings.pop("constructor"))
    wrapper = constructor(settings)(model)
    wrapper.guard = FiniteGuard()
    pairs = [(list(s.parameters()), list(t.parameters())) for s, t in model.ema_pairs()]
    sources = [p.detach() for s, _ in pairs for p in s]
    targets = [p.detach() for _, t in pairs for p in t]
    views = make_views(cfg, batch, device)

    def step() -> None:
        with wrapper.optim_context(model):
            losses = model.loss(views)
        wrapper.update_params(model.parse_losses(losses)[0])
        ema_update_(targets, sources, MOMENTUM, wrapper.skipped)
        wrapper.guard.read()

    # Without what checkpointing computes twice, and before a compiler hides it.
    trunks = [model.backbone, model.target_backbone]
    checkpointing = [trunk.checkpointing for trunk in trunks]
    for trunk in trunks:
        trunk.checkpointing = False
    flops = count(step)
    for trunk, before in zip(trunks, checkpointing, strict=True):
        trunk.checkpointing = before
        if compiled:
            compile_blocks_(trunk.vit.blocks)
    return step, flops


def plain(cfg: Any, batch: int, device: torch.device) -> tuple[Callable[[], object], int]:
    """Return a step of the plain implementation, and its operations."""
    backbone, head = cfg.model.backbone, cfg.model.head
    given = {k: v for k, v in backbone.items() if k not in OWN and v is not None}
    model = PlainMSN(
        {"model_name": backbone.name, **given},
        head.hidden_dim,
        head.output_dim,
        head.num_prototypes,
        cfg.model.mask_ratio["anchor"],
    )
    model.to(device).train()
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.04
    )
    views = [make_views(cfg, batch, device)[n]["images"] for n in ("target", "anchor", "focal")]

    def step() -> float:
        loss = model.loss(*views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.follow(MOMENTUM)
        return loss.item()

    return step, count(step)


def count(step: Callable[[], object]) -> int:
    """Return the operations of a step's matrix products, convolutions and attention."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def product(device: torch.device, half: bool) -> tuple[Callable[[], object], int]:
    """Return a large matrix product into memory that is there, and its operations."""
    side = 8192 if device.type == "cuda" else 2048
    dtype = torch.bfloat16 if half else torch.float32
    a, b, c = torch.randn(3, side, side, device=device).to(dtype)
    return lambda: torch.mm(a, b, out=c), 2 * side**3


def main(side: str, settings: dict[str, Any]) -> None:
    """Answer until the other end is closed."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
    cfg = load_config(settings["config"])
    amp = settings["amp"] and side == "ours"
    if side == "ours":
        step, flops = ours(cfg, settings["batch"], device, amp, settings["compile"])
    else:
        step, flops = plain(cfg, settings["batch"], device)
    multiply, operations = product(device, half=amp and device.type == "cuda")
    work = {"step": step, "product": multiply}
    clock = time.process_time if settings["clock"] == "cpu" else time.perf_counter
    for line in sys.stdin:
        asked = line.strip()
        if asked == "about":
            answer: Any = {
                "flops": flops,
                "product_flops": operations,
                "peak_bytes": torch.cuda.max_memory_allocated()
                if device.type == "cuda"
                else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
                "threads": torch.get_num_threads(),
            }
        else:
            answer = seconds_of(work[asked], device, clock)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
