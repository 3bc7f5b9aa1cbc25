"""Time one training step of a config against the machine's own matrix rate.

    python benchmarks/train_step.py [configs/msn_vits16.py] [--batch 8] [--steps 5] [--amp]

A step is forward, backward, optimizer and EMA on a batch of random views that
is already in memory; what loading costs is another question. The rate is that
of a 2048 x 2048 x 2048 float32 product in the same process, between the steps,
so a change of the machine's speed touches both. The step's operations are
counted by torch's FLOP counter.
"""

from __future__ import annotations

import argparse
import resource
import statistics

import torch
from timing import seconds_of
from torch.utils.flop_counter import FlopCounterMode

from msn_mm.engine.launch import load_config
from msn_mm.engine.optim.decay_groups import decay_groups
from msn_mm.models.ops.ema import ema_update_
from msn_mm.registry import MODELS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/msn_vits16.py")
    parser.add_argument("--batch", type=int, default=8, help="images of a step")
    parser.add_argument("--steps", type=int, default=5, help="timed steps; the median counts")
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    args = parser.parse_args()

    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cfg = load_config(args.config)
    model = MODELS.build(cfg.model).to(device).train()
    views = {}
    for name, view in cfg.train_dataloader.dataset.transform.views.items():
        rows = args.batch * view.get("num", 1)
        shape = (rows, model.backbone.in_chans, view.size, view.size)
        views[name] = {
            "images": torch.randn(shape, device=device),
            "key": torch.randint(0, 2**32, (rows,), device=device),
        }
    optimizer = torch.optim.AdamW(decay_groups(model), lr=1e-4, weight_decay=0.04, fused=True)
    pairs = [(list(s.parameters()), list(t.parameters())) for s, t in model.ema_pairs()]
    sources = [p.data for s, _ in pairs for p in s]
    targets = [p.data for _, t in pairs for p in t]

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=args.amp):
            losses = model.loss(views)
        (losses["loss_msn"] + losses["loss_me_max"]).backward()
        optimizer.step()
        optimizer.zero_grad()
        ema_update_(targets, sources, 0.996)

    with FlopCounterMode(display=False) as counter:
        step()
    flops = counter.get_total_flops()
    a, b = torch.randn(2, 2048, 2048, device=device)
    product = lambda: a @ b  # noqa: E731
    seconds_of(product, device)
    times, rates = [], []
    for _ in range(args.steps):
        times.append(seconds_of(step, device))
        rates.append(2 * 2048**3 / seconds_of(product, device))
    median, rate = statistics.median(times), statistics.median(rates)
    memory = (
        torch.cuda.max_memory_allocated()
        if device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{args.config}, batch {args.batch}, {where}, {torch.get_num_threads()} threads")
    print(
        f"step          {median * 1e3:.0f} ms (median of {args.steps}; {min(times) * 1e3:.0f} to "
        f"{max(times) * 1e3:.0f}), {args.batch / median:.2f} images/s"
    )
    print(f"operations    {flops / 1e9:.1f} GFLOP a step, {flops / median / 1e9:.1f} GFLOP/s")
    print(f"matrix rate   {rate / 1e9:.1f} GFLOP/s (2048^3 float32)")
    print(f"ratio         {flops / median / rate:.2f} of the matrix rate")
    print(f"peak memory   {memory / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
